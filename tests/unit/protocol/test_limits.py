"""Places and budgets at a door are shared out as the limits say."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import pytest

from collective.daemon.listeners.service_calls import MOST_OPEN_WITH_ONE
from collective.protocol import limits
from collective.protocol.limits import Limits, Places, RateLimit, origin_of


@dataclass(eq=False)
class Visitor:
    origin: str
    waiting_since: float | None
    cut: bool = False

    def abort(self) -> None:
        self.cut = True


def test_full_places_put_out_the_longest_waiting() -> None:
    """The guest that has waited longest makes way, and no other."""
    places = Places(2)
    late, early, new = Visitor("a", 2.0), Visitor("a", 1.0), Visitor("a", 3.0)
    assert all(places.enter(guest) for guest in (late, early, new))
    assert [late.cut, early.cut, new.cut] == [False, True, False]
    assert len(places) == 2


def test_full_places_of_served_guests_take_nobody() -> None:
    """A guest that is being served keeps its place."""
    places = Places(1)
    served = Visitor("a", None)
    assert places.enter(served)
    assert not places.enter(Visitor("b", 1.0))
    assert not served.cut
    assert len(places) == 1


def test_crowd_from_one_origin_makes_way_before_an_older_loner() -> None:
    """Who floods drives out itself, even though another has waited longer."""
    places = Places(3)
    loner = Visitor("b", 0.0)
    crowd = [Visitor("a", float(n)) for n in (1, 2, 3)]
    assert all(places.enter(guest) for guest in (loner, *crowd))
    assert not loner.cut
    assert [guest.cut for guest in crowd] == [True, False, False]


def test_origin_with_all_its_places_drives_out_its_own() -> None:
    """The limit of one origin holds while there is room for others."""
    places = Places(10, per_origin=1)
    first, second, other = Visitor("a", 1.0), Visitor("a", 2.0), Visitor("b", 0.0)
    assert all(places.enter(guest) for guest in (other, first, second))
    assert [first.cut, second.cut, other.cut] == [True, False, False]


def test_guest_that_left_frees_its_place() -> None:
    """Leaving makes room, and leaving twice is harmless."""
    places = Places(1)
    guest = Visitor("a", None)
    assert places.enter(guest)
    places.leave(guest)
    places.leave(guest)
    assert places.enter(Visitor("b", None))


def test_make_room_puts_out_one_that_waits() -> None:
    """Only who waits is put out, and an empty house stays as it is."""
    places = Places(3)
    places.make_room()
    served, waiting = Visitor("a", None), Visitor("a", 1.0)
    assert places.enter(served)
    assert places.enter(waiting)
    places.make_room()
    places.make_room()
    assert [served.cut, waiting.cut] == [False, True]


def test_budget_is_spent_and_grows_back() -> None:
    """A burst empties the bucket, and time fills it again, up to its size."""
    rate = RateLimit(2.0, 3)
    assert [rate.allow("a", 0.0) for _ in range(4)] == [True, True, True, False]
    assert [rate.allow("a", 0.5), rate.allow("a", 0.5)] == [True, False]
    assert [rate.allow("a", 100.0) for _ in range(4)] == [True, True, True, False]
    assert rate.allow("b", 100.0)


def test_budgets_forget_the_least_recently_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """The table stays small, and who keeps asking does not get a new budget by it."""
    monkeypatch.setattr(limits, "_MOST_BUCKETS", 2)
    rate = RateLimit(0.0, 1)
    assert rate.allow("busy", 0.0)
    for number in range(10):
        assert rate.allow(f"other{number}", 0.0)
        assert not rate.allow("busy", 0.0)


def test_budget_that_many_threads_spend_is_spent_once() -> None:
    """A bucket is for all threads that ask for the same origin."""
    rate = RateLimit(0.0, 50)
    with ThreadPoolExecutor(8) as pool:
        allowed = list(pool.map(lambda _: rate.allow("a", 0.0), range(400)))
    assert sum(allowed) == 50


def test_default_part_of_a_member_leaves_room_for_others_and_for_its_own_calls() -> None:
    """The numbers belong together: a change of one is looked at with the others."""
    some = Limits()
    for part, total in (
        (some.calls_per_member, some.member_calls),
        (some.bytes_per_member, some.member_bytes),
        (some.connections_per_member, some.member_connections),
        (some.streams_per_member, some.streams),
    ):
        assert 3 * part <= total
    assert some.bytes_per_member >= some.member_body_bytes
    asks = some.calls_per_member
    assert some.connections_per_member > some.streams_per_member + MOST_OPEN_WITH_ONE + asks


@pytest.mark.parametrize(
    ("address", "origin"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("fe80::1%eth0", "fe80::"),
        ("uid=0", "uid=0"),
    ],
)
def test_address_counts_under_its_origin(address: str, origin: str) -> None:
    """IPv6 addresses count by their /64, IPv4 ones by themselves in either writing."""
    assert origin_of(address) == origin
