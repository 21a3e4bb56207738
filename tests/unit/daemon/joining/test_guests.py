"""The joiner's look at the guest list: is who answers one of those that the token knows?"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.daemon.joining import guests as module
from collective.daemon.joining.guests import (
    Confirmed,
    check_guest,
    check_named,
    confirm,
    listed_guests,
)
from collective.errors import CollectiveError, InvitationError, ProtocolError
from collective.model.guest_list import guest_list_hash
from collective.model.token import Token
from collective.protocol.messages import Challenge, ClaimAnswer, Prospect, Voter

ONE, TWO, THREE, FOUR = (digit * 64 for digit in "a234")
GUESTS = {ONE: "mgt1", TWO: "mgt2", THREE: "mgt3"}
PLACE = "10.0.0.1:13002"


def token(*fingerprints: str) -> Token:
    return Token("mgt9", b"s" * 32, guest_list_hash(fingerprints))


TOKEN = token(*GUESTS)


def test_list_of_the_token_is_found_among_others() -> None:
    """Each pending invitation has one; names are for people."""
    lists = [{FOUR: "mgt4"}, {ONE: "mgt1"}, GUESTS, {}]
    assert listed_guests(lists, TOKEN, PLACE) == GUESTS
    nameless = dict.fromkeys(GUESTS, "")
    assert listed_guests([nameless], TOKEN, PLACE) == nameless


@pytest.mark.parametrize(
    "lists",
    [
        [],
        [{ONE: "mgt1", TWO: "mgt2"}],
        [{**GUESTS, FOUR: "mgt4"}],
        [{ONE: "mgt1", TWO: "mgt2", FOUR: "mgt3"}],
        [{ONE.upper(): "mgt1", TWO: "mgt2", THREE: "mgt3"}],
        [{ONE: 1, TWO: "mgt2", THREE: "mgt3"}],
        [list(GUESTS)],
        ["x", None, 5, [], {}, {"": ""}],
    ],
    ids=["none", "one less", "one more", "another", "letters", "no name", "a list", "nonsense"],
)
def test_list_that_does_not_hash_to_the_tokens_is_not_believed(lists: list[Any]) -> None:
    """Whoever shows it: the token was made with another."""
    with pytest.raises(InvitationError, match=f"^{PLACE} shows no guest list that the token for "):
        listed_guests(lists, TOKEN, PLACE)


@pytest.mark.parametrize("raw", [{}, {"guests": None}, {"guests": GUESTS}, {"guests": [{}] * 65}])
def test_answer_without_lists_is_no_answer(raw: dict[str, Any]) -> None:
    """And 65 of them are more than anybody invites at once."""
    said = Challenge.from_wire({"format": 1, "nonce": "00", **raw})
    with pytest.raises(ProtocolError, match=f"^{PLACE} shows no guest lists$"):
        listed_guests(said.guests, TOKEN, PLACE)


def test_list_of_too_many_guests_is_passed_over() -> None:
    """The one who shows it wants to keep the joiner busy."""
    many = {f"{n:064x}": "" for n in range(65)}
    with pytest.raises(InvitationError):
        listed_guests([many], token(*many), PLACE)
    fewer = dict(list(many.items())[:64])
    assert listed_guests([fewer], token(*fewer), PLACE) == fewer


def test_name_of_a_guest_is_cut() -> None:
    """It ends in messages for people."""
    assert listed_guests([{ONE: "x" * 9000}], token(ONE), PLACE) == {ONE: "x" * 64}


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5) | st.just(ONE),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
    max_leaves=6,
)


@given(JSON)
def test_any_answer_of_a_stranger_is_survived(value: Any) -> None:
    """No other error leaves."""
    with pytest.raises(CollectiveError):
        listed_guests(value, TOKEN, PLACE)


@pytest.mark.parametrize("served", GUESTS)
def test_guest_is_one_on_the_list(served: str) -> None:
    """Whichever: no voter is special (P10)."""
    check_guest(GUESTS, served, PLACE, "mgt9")


@pytest.mark.parametrize("served", [FOUR, "", ONE.replace("a", "2", 1), "mgt1"])
def test_server_that_is_not_on_the_list_names_those_that_are(served: str) -> None:
    """It joined later, got another certificate, or sits in the middle."""
    guests = {ONE: "mgt10", TWO: "mgt2", THREE: ""}
    with pytest.raises(InvitationError, match=f"^{PLACE} is not on the guest list") as caught:
        check_guest(guests, served, PLACE, "mgt9")
    hint = str(caught.value.hint)
    assert "join one of those on the list: mgt2, mgt10; or" in hint
    assert "'collective invite mgt9'" in hint


def test_list_of_none_that_is_a_member_still_says_so() -> None:
    """Then a new token is the only way."""
    with pytest.raises(InvitationError) as caught:
        check_guest({ONE: ""}, TWO, PLACE, "mgt9")
    assert "none is a member any more" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("host", "address", "name", "addresses"),
    [
        ("mgt1", "10.0.0.1", "mgt1", ()),
        ("MGT1", "10.0.0.1", "mgt1", ()),
        ("mgt1.example.com", "10.0.0.1", "mgt1", ()),
        ("10.0.0.1", "10.0.0.1", "mgt1", ("10.0.0.1",)),
        ("fd00:0::1", "fd00::1", "mgt1", ("10.0.0.1", "FD00::1")),
        ("::ffff:10.0.0.1", "::ffff:10.0.0.1", "mgt1", ("10.0.0.1",)),
        ("alias", "10.0.0.1", "mgt1", ("10.0.0.1",)),
    ],
)
def test_certificate_is_that_of_who_was_asked_for(
    host: str, address: str, name: str, addresses: tuple[str, ...]
) -> None:
    """By its name, or by the address that was dialled."""
    assert check_named(host, address, name, addresses) is None


@pytest.mark.parametrize(
    ("host", "address", "name", "addresses"),
    [
        ("mgt1", "10.0.0.1", "mgt2", ("10.0.0.2",)),
        ("mgt1", "10.0.0.1", "mgt10", ()),
        ("10.0.0.1", "10.0.0.1", "mgt1", ("10.0.0.2", "mgt1.example.com", "")),
        ("10.0.0.1", "10.0.0.1", "mgt1", ()),
        ("fd00::1", "fd00::1", "fd00::1", ()),
    ],
)
def test_certificate_of_another_is_told(
    host: str, address: str, name: str, addresses: tuple[str, ...]
) -> None:
    """Another member of the list that answers in its place is not the one that was asked for."""
    if host.partition(".")[0] == name:
        assert check_named(host, address, name, addresses) is None
        return
    told = check_named(host, address, name, addresses)
    assert told == f"the certificate that is shown at {address} is for {name}, which is not {host}"


# A majority of the list has the claim -----------------------------------------------------------


class Asked:
    """Guests that answer, or do not, without a network."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, **answers: Any) -> None:
        self.asked: list[str] = []
        self._answers = answers
        monkeypatch.setattr(module, "_ask", self._ask)
        monkeypatch.setattr(module, "_PATIENCE_SECONDS", 0.05)
        monkeypatch.setattr(module, "_AGAIN_SECONDS", 0.0)

    def _ask(self, member: Voter, _name: str, _ours: str) -> Any:
        self.asked.append(member.name)
        return self._answers.get(member.name)


MEMBERS = [
    Voter(name, f"10.0.0.{n}", 13002, 13003, f)
    for n, (f, name) in enumerate({**GUESTS, FOUR: "mgt4"}.items())
]


def yes(collective: str = "c1", *voters: str) -> ClaimAnswer:
    return ClaimAnswer(True, collective, voters)


def test_majority_with_the_sponsor_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    """One other of three; what it says of the collective counts, not the sponsor."""
    Asked(monkeypatch, mgt3=yes("c1", f"{ONE} https://a:1", f"{THREE} https://c:1"))
    found = frozenset({f"{ONE} https://a:1", f"{THREE} https://c:1"})
    assert confirm(ONE, GUESTS, MEMBERS, "mgt9", FOUR) == Confirmed("c1", found)


def test_list_of_one_needs_nobody_else(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sponsor is the majority."""
    asked = Asked(monkeypatch)
    assert confirm(ONE, {ONE: "mgt1"}, MEMBERS, "mgt9", FOUR) == Confirmed("", frozenset())
    assert asked.asked == []


@pytest.mark.parametrize("answers", [{}, {"mgt4": yes()}, {"mgt1": yes()}])
def test_sponsor_and_those_that_are_not_on_the_list_do_not_count(
    monkeypatch: pytest.MonkeyPatch, answers: dict[str, Any]
) -> None:
    """One server that turned bad cannot confirm its own word, nor bring friends."""
    asked = Asked(monkeypatch, **answers)
    with pytest.raises(InvitationError, match="only 1 of 3 servers on the guest list"):
        confirm(ONE, GUESTS, MEMBERS, "mgt9", FOUR)
    assert set(asked.asked) == {"mgt2", "mgt3"}


def test_one_guest_that_is_listed_twice_counts_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """The sponsor says where they are, and could say it as often as it likes."""
    Asked(monkeypatch, mgt2=yes())
    five = {**GUESTS, FOUR: "mgt4", "5" * 64: "mgt5"}
    twice = [*MEMBERS, *[m for m in MEMBERS if m.name == "mgt2"] * 3]
    with pytest.raises(InvitationError, match=r"only 2 of 5 .* expected 3"):
        confirm(ONE, five, twice, "mgt9", FOUR)


def test_guests_of_different_collectives_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """One of them was restored from a snapshot, or lies: the joiner ends nowhere (P3)."""
    Asked(monkeypatch, mgt2=yes("c1"), mgt3=yes("c2"))
    five = {**GUESTS, FOUR: "mgt4", "5" * 64: "mgt5"}
    with pytest.raises(InvitationError, match="of different collectives"):
        confirm(ONE, five, MEMBERS[:3], "mgt9", FOUR)


def named(members: object) -> Sequence[Voter]:
    """Return whom a sponsor names that says so."""
    return Prospect.from_wire({"format": 1, "members": members}).members or ()


@pytest.mark.parametrize("members", [None, {}, "mgt2", 5])
def test_sponsor_that_names_nobody_is_refused(members: object) -> None:
    """It answers in no form that we know."""
    with pytest.raises(ProtocolError):
        confirm(ONE, GUESTS, named(members), "mgt9", FOUR)


def test_nonsense_among_the_members_is_passed_over(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that are left must be enough all the same."""
    Asked(monkeypatch, mgt2=yes())
    odd: list[Any] = [None, 5, [], {}, {"fingerprint": 5}, {"fingerprint": []}]
    members = named([*odd, *(member.to_wire() for member in MEMBERS)])
    assert confirm(ONE, GUESTS, members, "mgt9", FOUR).collective == "c1"


@pytest.mark.parametrize("voters", [None, 5, "abc", {ONE: 1}, [None, 5, []]])
def test_nonsense_in_the_word_of_a_guest_is_passed_over(
    monkeypatch: pytest.MonkeyPatch, voters: object
) -> None:
    """A guest may be one that was deleted since: what it says of voters is compared, no more."""
    Asked(monkeypatch, mgt2=ClaimAnswer.from_wire({**yes().to_wire(), "voters": voters}))
    assert confirm(ONE, GUESTS, MEMBERS, "mgt9", FOUR) == Confirmed("c1", frozenset())
