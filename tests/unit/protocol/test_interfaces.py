"""The addresses of this machine, as the kernel says them."""

from __future__ import annotations

import ipaddress

import pytest

from collective.protocol.interfaces import (
    interface_of,
    is_local,
    is_routed,
    local_addresses,
    source_towards,
)


def test_addresses_of_this_machine_are_whole_and_each_once() -> None:
    """Each parses without a zone, loopback is among them."""
    found = local_addresses()
    assert "127.0.0.1" in found
    assert len(set(found)) == len(found)
    parsed = [ipaddress.ip_address(a) for a in found]
    assert not any(a.is_link_local for a in parsed if a.version == 6)


def test_interface_is_named_that_has_an_address() -> None:
    """A bridge of containers has a name that tells it."""
    assert interface_of("127.0.0.1") == "lo"
    assert interface_of("192.0.2.77") is None


@pytest.mark.parametrize("version", [4, 6])
def test_no_route_to_others_leads_over_loopback(version: int) -> None:
    """Whatever addresses of this machine are on it."""
    assert not is_routed("lo", version)


@pytest.mark.parametrize(
    ("address", "ours"),
    [("127.0.0.1", True), ("127.0.0.77", True), ("192.0.2.77", False), ("2001:db8::1", False)],
)
def test_address_is_local_only_where_an_interface_has_it(address: str, ours: bool) -> None:
    """All of 127.0.0.0/8 is, though the kernel lists one of it (ip(7))."""
    assert is_local(address) is ours


def test_way_to_this_machine_comes_from_this_machine() -> None:
    """The kernel says which address it would send from, for both families."""
    assert source_towards("127.0.0.9") == "127.0.0.1"
    assert source_towards("::1") in ("::1", None)
