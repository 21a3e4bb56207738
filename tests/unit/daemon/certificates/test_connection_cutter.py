"""Who is connected to etcd's peer port without being a member."""

from __future__ import annotations

import socket

import pytest

from collective.daemon.certificates.connection_cutter import strangers
from collective.model.records import MemberRecord, Role, to_json
from collective.model.view import Item, View, member_key
from collective.protocol.interfaces import connected_to


def view_of(*addresses: str) -> View:
    """Return a view of voters at these addresses."""
    records = [
        MemberRecord(f"mgt{n}", f"{n:x}", Role.VOTER, a, 13002, 13003, (), 0.0)
        for n, a in enumerate(addresses, 1)
    ]
    return View(1, {member_key(r.name): Item(to_json(r).encode(), 1) for r in records})


@pytest.mark.parametrize(
    ("connected", "found"),
    [
        ((), ()),
        (("10.0.0.1", "10.0.0.2", "10.0.7.2", "fd00::2"), ()),
        (("10.0.7.3",), ("10.0.7.3",)),
        (("10.0.0.1", "10.0.0.3"), ("10.0.0.3",)),
        (("127.0.0.1", "::1"), ()),
        (("2001:db8::9",), ("2001:db8::9",)),
    ],
)
def test_stranger_is_an_address_of_no_member(
    connected: tuple[str, ...], found: tuple[str, ...]
) -> None:
    """On loopback addresses nobody can be told apart, so nobody is a stranger there."""
    told = {"mgt2": ("10.0.7.2", "fd00::2"), "mgt3": ("10.0.7.3",)}
    assert strangers(view_of("10.0.0.1", "10.0.0.2"), told, connected) == set(found)


@pytest.mark.parametrize(
    ("family", "address"), [(socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")]
)
def test_open_connection_is_seen_until_it_is_closed(
    family: socket.AddressFamily, address: str
) -> None:
    """The kernel's table names the other side, for both families."""
    with socket.socket(family) as listener:
        listener.bind((address, 0))
        listener.listen()
        port = listener.getsockname()[1]
        assert connected_to(port) == frozenset()
        with socket.create_connection((address, port)):
            accepted, _ = listener.accept()
            with accepted:
                assert connected_to(port) == {address}
        assert connected_to(port) == frozenset()
