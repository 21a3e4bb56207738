"""Which address may a server have, and which one is meant: tables."""

from __future__ import annotations

from dataclasses import replace

import pytest

from collective.errors import RefusedError
from collective.model.records import Change, ChangeKind, MemberRecord, Role, to_json
from collective.model.view import CHANGE_KEY, Item, View, member_key
from collective.policy.addressing import (
    OwnAddresses,
    certifiable,
    check_advertised,
    check_certified,
    check_readdress,
    doubt_of,
    is_zoned,
    new_address,
    owner_of,
    plain,
    vacating,
)

LOCAL = ("127.0.0.1", "10.0.0.5", "10.1.0.5", "fd00::5")


@pytest.mark.parametrize(
    ("current", "setting", "local", "sources", "expected"),
    [
        ("10.0.0.5", None, LOCAL, (), None),
        ("10.0.0.5", "10.0.0.5", LOCAL, (), None),
        ("10.0.0.4", "10.0.0.5", LOCAL, (), "10.0.0.5"),
        ("127.0.0.2", "127.0.0.9", LOCAL, (), "127.0.0.9"),
        ("10.0.0.4", None, LOCAL, ("10.0.0.5", "10.0.0.5"), "10.0.0.5"),
        ("10.0.0.4", None, ("127.0.0.1", "10.0.0.5", "fd00::5"), (), "10.0.0.5"),
        ("fd00::4", None, LOCAL, ("10.0.0.5",), "fd00::5"),
        ("127.0.0.2", None, LOCAL, (), None),
    ],
)
def test_address_is_changed_where_only_one_can_be_meant(
    current: str,
    setting: str | None,
    local: tuple[str, ...],
    sources: tuple[str, ...],
    expected: str | None,
) -> None:
    """The setting counts first; then the one that leads to the others; then the only one."""
    assert new_address(OwnAddresses(current, setting, local, sources)) == expected


@pytest.mark.parametrize(
    ("current", "setting", "local", "sources"),
    [
        ("10.0.0.4", None, LOCAL, ()),
        ("10.0.0.4", None, LOCAL, ("10.0.0.5", "10.1.0.5")),
        ("10.0.0.4", None, ("127.0.0.1", "fd00::5"), ()),
        ("10.0.0.4", None, ("127.0.0.1",), ("127.0.0.1",)),
        ("10.0.0.4", "10.9.9.9", LOCAL, ("10.0.0.5",)),
    ],
)
def test_address_is_not_guessed_where_several_can_be_meant(
    current: str, setting: str | None, local: tuple[str, ...], sources: tuple[str, ...]
) -> None:
    """Two candidates, none of the family, or a setting that is not here: a person decides."""
    with pytest.raises(RefusedError):
        new_address(OwnAddresses(current, setting, local, sources))


def member(name: str, address: str, role: Role = Role.VOTER) -> MemberRecord:
    return MemberRecord(name, name, role, address, 1, 2, (), 0.0)


def view(*members: MemberRecord, change: Change | None = None) -> View:
    items = {member_key(m.name): Item(to_json(m).encode(), 1) for m in members}
    if change is not None:
        items[CHANGE_KEY] = Item(to_json(change).encode(), 1)
    return View(1, items)


TWO = (member("mgt1", "10.0.0.1"), member("mgt2", "10.0.0.2"))
CHANGE = Change(ChangeKind.REMOVE, "mgt3", "3", "mgt1", done=False)


def test_member_may_get_an_address_that_is_nobodys() -> None:
    """Its own one again is nothing new, so that a change that was cut off can be repeated."""
    assert check_readdress(view(*TWO), "mgt2", "10.0.0.9") == TWO[1]
    assert check_readdress(view(*TWO), "mgt2", "10.0.0.2") == TWO[1]
    done = replace(CHANGE, done=True)
    assert check_readdress(view(*TWO, change=done), "mgt2", "10.0.0.9") == TWO[1]


def test_server_that_is_alone_may_leave_loopback() -> None:
    """Whoever installed it before there was a network."""
    alone = member("mgt1", "127.0.0.1")
    assert check_readdress(view(alone), "mgt1", "10.0.0.1") == alone


@pytest.mark.parametrize(
    ("records", "name", "address", "words"),
    [
        (view(*TWO), "mgt3", "10.0.0.9", "not a member"),
        (view(*TWO, member("mgt3", "10.0.0.3", Role.LEARNER)), "mgt3", "10.0.0.9", "taken in"),
        (view(*TWO, change=CHANGE), "mgt2", "10.0.0.9", "another change is under way"),
        (view(*TWO), "mgt2", "10.0.0.1", "address of mgt1"),
        (view(*TWO), "mgt2", "127.0.0.2", "loopback"),
        (view(*TWO), "mgt2", "::ffff:127.0.0.2", "loopback"),
        (view(*TWO), "mgt2", "::ffff:10.0.0.1", "address of mgt1"),
    ],
)
def test_address_that_would_do_harm_is_refused(
    records: View, name: str, address: str, words: str
) -> None:
    """No stranger, no learner, no change beside another, nobody else's, no mixed loopback."""
    with pytest.raises(RefusedError, match=words):
        check_readdress(records, name, address)


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("10.0.0.1", "::ffff:10.0.0.1", True),
        ("127.0.0.2", "::ffff:127.0.0.2", True),
        ("127.0.0.2", "::FFFF:7f00:2", True),
        ("fd00::1", "FD00:0:0::1", True),
        ("fe80::1%eth0", "fe80::1", True),
        ("fe80::1%eth0", "fe80::1%eth1", True),
        ("::ffff:10.0.0.1%eth0", "10.0.0.1", True),
        ("10.0.0.1", "10.0.0.2", False),
        ("::1", "127.0.0.1", False),
        ("::10.0.0.1", "10.0.0.1", False),
    ],
)
def test_addresses_are_compared_and_not_their_texts(one: str, other: str, same: bool) -> None:
    """Two that lead to one place are equal, however they are written."""
    assert (plain(one) == plain(other)) is same


@pytest.mark.parametrize("text", ["", "mgt1", "10.0.0.256", "10.1", "%eth0", "10.0.0.01", "::g"])
def test_text_that_is_no_address_is_an_error(text: str) -> None:
    """Whoever asks must have looked."""
    with pytest.raises(ValueError, match=r"."):
        plain(text)


LOOPED = (member("mgt1", "127.0.0.1"), member("mgt2", "127.0.0.2"))


@pytest.mark.parametrize(
    ("members", "claimed", "allowed"),
    [
        (TWO, ["10.0.0.3", "10.1.0.3", "fd00::3"], ["10.0.0.3", "10.1.0.3", "fd00::3"]),
        (TWO, ["10.0.0.3", "10.0.0.1", "10.0.0.2"], ["10.0.0.3"]),
        (TWO, ["10.0.0.3", "::ffff:10.0.0.1", "::FFFF:0a00:0001"], ["10.0.0.3"]),
        (TWO, ["10.0.0.3", "::ffff:10.0.0.1%eth0"], ["10.0.0.3"]),
        (TWO, ["10.0.0.1"], []),
        (LOOPED, ["127.0.0.3", "127.0.0.1", "::1"], ["127.0.0.3", "127.0.0.1", "::1"]),
        (LOOPED, ["127.0.0.3", "127.0.0.2", "::ffff:127.0.0.2"], ["127.0.0.3"]),
        (LOOPED, ["10.0.0.3", "127.0.0.1"], ["10.0.0.3"]),
        (LOOPED, ["127.0.0.3", "::ffff:127.0.0.1"], ["127.0.0.3"]),
    ],
)
def test_certificate_may_name_what_is_no_other_members(
    members: tuple[MemberRecord, ...], claimed: list[str], allowed: list[str]
) -> None:
    """On one machine, what the kernel sends from is everybody's; nothing else of loopback is."""
    assert certifiable(view(*members), "mgt3", claimed) == allowed


def test_certificate_may_name_its_own_members_address() -> None:
    """A server that is recorded already is no other."""
    assert certifiable(view(*TWO), "mgt2", ["10.0.0.2"]) == ["10.0.0.2"]


@pytest.mark.parametrize(
    ("members", "address", "named"),
    [
        (TWO, "10.0.0.3", ["10.0.0.3"]),
        (TWO, "10.0.0.3", ["fd00::3", "::ffff:10.0.0.3"]),
        (TWO, "fd00::3", ["FD00:0::3", "10.1.0.3"]),
        (LOOPED, "127.0.0.3", ["127.0.0.3", "127.0.0.1", "::1"]),
        ((), "10.0.0.3", ["10.0.0.3", "10.0.0.1"]),
    ],
)
def test_certificate_of_what_is_its_servers_is_good(
    members: tuple[MemberRecord, ...], address: str, named: list[str]
) -> None:
    """The advertised address in whatever form, and others that are nobody's."""
    check_certified(view(*members), "mgt3", address, named)


@pytest.mark.parametrize(
    ("members", "address", "named", "says"),
    [
        (TWO, "10.0.0.3", [], "does not name its address 10.0.0.3"),
        (TWO, "10.0.0.3", ["10.0.0.4"], "does not name its address 10.0.0.3"),
        (TWO, "10.0.0.3", ["10.0.0.3", "mgt1"], "names a host"),
        (TWO, "10.0.0.3", ["10.0.0.3", "mgt1.example.com"], "names a host"),
        (TWO, "10.0.0.3", ["10.0.0.3", "10.0.0.1"], "10.0.0.1, which is the address of mgt1"),
        (TWO, "10.0.0.3", ["10.0.0.3", "::ffff:10.0.0.1"], "which is the address of mgt1"),
        (TWO, "10.0.0.1", ["10.0.0.1"], "which is the address of mgt1"),
        (LOOPED, "127.0.0.3", ["127.0.0.3", "127.0.0.2"], "which is the address of mgt2"),
        (LOOPED, "127.0.0.3", ["127.0.0.3", "::ffff:127.0.0.2"], "the address of mgt2"),
        (LOOPED, "10.0.0.3", ["10.0.0.3", "127.0.0.1"], "which is the address of mgt1"),
    ],
)
def test_certificate_of_what_is_not_its_servers_is_refused(
    members: tuple[MemberRecord, ...], address: str, named: list[str], says: str
) -> None:
    """Etcd compares it with where a connection comes from: it would be let in as another."""
    with pytest.raises(RefusedError, match=says) as caught:
        check_certified(view(*members), "mgt3", address, named)
    assert "gencert" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("members", "here", "address"),
    [
        (TWO, "10.0.0.1", "10.0.0.3"),
        (TWO, "10.0.0.1", "fd00::3"),
        (LOOPED, "127.0.0.1", "127.0.0.3"),
        (LOOPED, "127.0.0.1", "::1"),
    ],
)
def test_address_at_which_a_server_can_be_is_dialled(
    members: tuple[MemberRecord, ...], here: str, address: str
) -> None:
    """Also the one that it has already: a join that was cut off is repeated."""
    check_advertised(view(*members), "mgt3", here, address)
    check_advertised(view(*members, member("mgt3", address)), "mgt3", here, address)


@pytest.mark.parametrize(
    ("here", "address", "says"),
    [
        ("10.0.0.1", "10.0.0.1", "is the address of mgt1"),
        ("10.0.0.1", "10.0.0.2", "is the address of mgt2"),
        ("10.0.0.1", "::ffff:10.0.0.2", "is the address of mgt2"),
        ("10.0.0.1", "127.0.0.1", "is reached from its own server only"),
        ("10.0.0.1", "127.0.0.2", "is reached from its own server only"),
        ("10.0.0.1", "::1", "is reached from its own server only"),
        ("10.0.0.1", "::ffff:127.0.0.2", "is reached from its own server only"),
        ("10.0.0.1", "::ffff:7f00:2%lo", "is reached from its own server only"),
        ("10.0.0.1", "0.0.0.0", "no address of one server"),
        ("10.0.0.1", "::", "no address of one server"),
        ("10.0.0.1", "::ffff:0.0.0.0", "no address of one server"),
        ("10.0.0.1", "224.0.0.1", "no address of one server"),
        ("10.0.0.1", "ff02::1", "no address of one server"),
        ("10.0.0.1", "169.254.169.254", "no address of one server"),
        ("10.0.0.1", "::ffff:169.254.169.254", "no address of one server"),
        ("10.0.0.1", "fe80::1%eth0", "no address of one server"),
    ],
)
def test_address_at_which_no_other_server_can_be_is_not_dialled(
    here: str, address: str, says: str
) -> None:
    """Who holds a token must not have a member connect to itself, or to others, or anywhere."""
    with pytest.raises(RefusedError, match=f"^cannot take in mgt3: .*{says}"):
        check_advertised(view(*TWO), "mgt3", here, address)


@pytest.mark.parametrize(
    ("address", "interface", "doubted"),
    [
        ("10.0.0.5", "eth0", False),
        ("10.0.0.5", None, False),
        ("fd00::5", "br0", False),
        ("172.17.0.1", "docker0", True),
        ("172.18.0.1", "br-3f9a5d0c1e2b", True),
        ("192.168.122.1", "virbr0", True),
        ("10.244.0.1", "cni0", True),
        ("169.254.7.1", "eth0", True),
        ("127.0.0.1", "lo", True),
    ],
)
def test_moby_24237_address_that_other_machines_have_is_doubted(
    address: str, interface: str | None, doubted: bool
) -> None:
    """Everything that was dialled there was this machine, and the checks said well."""
    assert (doubt_of(address, interface) is not None) is doubted


def test_address_that_nobody_has_a_way_to_is_doubted() -> None:
    """Such as one that was put on lo or dummy0, for whatever."""
    told = doubt_of("10.9.9.9", "dummy0", routed=False)
    assert told == "10.9.9.9 is on dummy0, over which no route leads to other servers"


def test_kubeadm_1272_link_local_address_may_be_advertised() -> None:
    """By members of that link; one of IPv6 leads nowhere without its zone, and so may not."""
    assert not is_zoned("169.254.7.1")
    check_advertised(view(*TWO), "mgt3", "169.254.7.9", "169.254.7.1")
    assert is_zoned("fe80::1")
    with pytest.raises(RefusedError):
        check_advertised(view(*TWO), "mgt3", "10.0.0.1", "fe80::1")


def test_etcd_18309_address_is_given_up_by_who_was_found_not_to_be_there() -> None:
    """Its record has then an address that leads nowhere, and is no other member's."""
    assert check_readdress(view(*TWO), "mgt2", "10.0.0.1", {"mgt1"}) == TWO[1]
    after = vacating(view(*TWO), {"mgt1"})
    assert owner_of(after, "10.0.0.1", "mgt2") is None
    assert after.members["mgt1"].address != vacating(view(*TWO), {"mgt2"}).members["mgt2"].address
    assert check_readdress(after, "mgt1", "10.0.0.2", {"mgt2"}).name == "mgt1"


def test_server_without_a_vote_takes_no_address_from_a_voter() -> None:
    """It would change whom etcd dials."""
    records = view(TWO[0], member("mgt2", "10.0.0.2", Role.NONVOTING))
    with pytest.raises(RefusedError):
        check_readdress(records, "mgt2", "10.0.0.1", {"mgt1"})
    assert check_readdress(records, "mgt1", "10.0.0.2", {"mgt2"}).name == "mgt1"
