"""Server names and addresses."""

from __future__ import annotations

import ipaddress
import random
import re
import socket
from contextlib import suppress

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from collective.errors import InputError
from collective.model.names import (
    MOST_ADDRESSES,
    bracketed,
    certified_addresses,
    claimed_addresses,
    is_ip_address,
    name_of_host,
    natural_key,
    parse_address,
    parse_host_port,
    parse_new_name,
    parse_reachable_address,
    parse_server_name,
    peer_url,
)

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?\Z", re.ASCII)


@pytest.mark.parametrize(
    ("typed", "stored"),
    [
        ("mgt1", "mgt1"),
        ("MGT1", "mgt1"),
        ("a", "a"),
        ("1", "1"),
        ("rack-1-mgt", "rack-1-mgt"),
        ("a" * 63, "a" * 63),
    ],
)
def test_host_name_label_is_kept_in_lower_case(typed: str, stored: str) -> None:
    """What RFC 1123 allows is allowed, and a name is stored in one form."""
    assert parse_server_name(typed) == stored


@pytest.mark.parametrize(
    "typed",
    [
        "",
        " ",
        "-a",
        "a-",
        "a" * 64,
        "a.b",
        "a_b",
        "a b",
        "a\n",
        "a/b",
        "a@b",
        "a=b",
        "a,b",
        "mgté",
    ],
)
def test_other_text_is_no_server_name(typed: str) -> None:
    """The refusal says the rule."""
    with pytest.raises(InputError, match="is not a server name") as caught:
        parse_server_name(typed)
    assert "1 to 63 letters" in str(caught.value.hint)


def test_name_with_a_domain_gets_the_short_one_as_a_hint() -> None:
    """The likeliest mistake is answered with what to type."""
    with pytest.raises(InputError) as caught:
        parse_server_name("mgt1.example.org")
    assert str(caught.value.hint).endswith("without the domain it would be mgt1")


@given(st.text(max_size=70))
def test_any_text_gives_a_label_or_an_input_error(text: str) -> None:
    """Nothing but a label of ASCII ever comes out, since names stand in keys and URLs."""
    try:
        name = parse_server_name(text)
    except InputError:
        return
    assert LABEL.match(name)
    assert parse_server_name(name) == name


def test_letter_that_only_becomes_ascii_is_refused() -> None:
    """The Kelvin sign is no letter of a host name, though its lower case is a k."""
    with pytest.raises(InputError):
        parse_server_name("mgt\N{KELVIN SIGN}")


def test_names_sort_by_their_numbers() -> None:
    """A list of members reads as a person would write it."""
    ordered = ["10", "a", "mgt", "mgt1", "mgt2", "mgt2-b", "mgt10", "mgt10-2", "mgt10-10", "n1"]
    shuffled = random.Random(1).sample(ordered, len(ordered))
    assert sorted(shuffled, key=natural_key) == ordered


@example(["²0"])
@given(st.lists(st.from_regex(LABEL), max_size=6))
def test_any_names_can_be_sorted(names: list[str]) -> None:
    """Letters and digits in any place compare without an error."""
    assert sorted(sorted(names, key=natural_key)) == sorted(names)


@pytest.mark.parametrize(
    ("address", "written"), [("10.0.0.1", "10.0.0.1"), ("fd00::1", "[fd00::1]"), ("mgt1", "mgt1")]
)
def test_address_is_written_for_a_url(address: str, written: str) -> None:
    """IPv6 goes into brackets (RFC 3986)."""
    assert bracketed(address) == written
    assert peer_url(address, 13003) == f"https://{written}:13003"


@pytest.mark.parametrize(
    ("text", "is_one"),
    [("10.0.0.1", True), ("::1", True), ("10.1", False), ("mgt1", False), ("", False)],
)
def test_address_is_told_from_a_name(text: str, is_one: bool) -> None:
    """Short forms that only some resolvers read are names here."""
    assert is_ip_address(text) is is_one


@pytest.mark.parametrize(
    ("given_", "certified"),
    [
        (["10.0.0.1"], ["10.0.0.1"]),
        (["10.0.0.1", "10.0.0.1", "fd00::1"], ["10.0.0.1", "fd00::1"]),
        (["127.0.0.2"], ["127.0.0.2", "127.0.0.1", "::1"]),
        (["::1"], ["::1", "127.0.0.1"]),
        (["mgt1.example.org"], ["mgt1.example.org"]),
        ([], []),
    ],
)
def test_certificate_covers_where_connections_come_from(
    given_: list[str], certified: list[str]
) -> None:
    """The kernel sends from 127.0.0.1 to any loopback address, and etcd looks at the source."""
    assert certified_addresses(given_) == certified


@pytest.mark.parametrize(
    ("text", "parsed"),
    [
        ("mgt1", ("mgt1", 13002)),
        ("mgt1:99", ("mgt1", 99)),
        ("10.0.0.1:65535", ("10.0.0.1", 65535)),
        ("[fd00::1]", ("fd00::1", 13002)),
        ("[fd00::1]:1", ("fd00::1", 1)),
        ("fd00::1", ("fd00::1", 13002)),
    ],
)
def test_host_and_port_are_split(text: str, parsed: tuple[str, int]) -> None:
    """With and without a port, IPv6 with and without brackets."""
    assert parse_host_port(text, 13002) == parsed


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":1",
        "[]",
        "[fd00::1",
        "[fd00::1]1",
        "a:0",
        "a:65536",
        "a:-1",
        "a:+1",
        "a: 1",
        "a:٣",
        "a:",
        "a b",
        "user@a",
        "a/b",
        "https://a",
    ],
)
def test_bad_host_or_port_is_refused(text: str) -> None:
    """What is no host, or no port, is an input error."""
    with pytest.raises(InputError):
        parse_host_port(text, 13002)


def test_endless_port_is_refused() -> None:
    """Python does not turn so many digits into a number; that must not leak out."""
    with pytest.raises(InputError):
        parse_host_port("mgt1:" + "1" * 5000, 13002)


@given(st.text(max_size=40))
def test_any_text_gives_host_and_port_or_an_input_error(text: str) -> None:
    """No other error leaves, and what is accepted fits a connect."""
    try:
        host, port = parse_host_port(text, 13002)
    except InputError:
        return
    assert host
    assert 0 < port < 65536


@given(st.ip_addresses(), st.integers(1, 65535))
def test_every_address_comes_back_from_its_written_form(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int
) -> None:
    """``bracketed`` and ``parse_host_port`` fit together."""
    assert parse_host_port(f"{bracketed(str(address))}:{port}", 1) == (str(address), port)


@pytest.mark.parametrize(
    ("address", "found", "claimed"),
    [
        ("10.0.0.1", ["127.0.0.1", "10.0.0.1", "10.1.0.1"], ("10.0.0.1", "10.1.0.1")),
        ("10.1.0.1", ["127.0.0.1", "::1", "fd00::1"], ("10.1.0.1", "fd00::1")),
        ("127.0.0.2", ["127.0.0.1", "10.0.0.1"], ("127.0.0.2",)),
        ("::1", ["::1", "fd00::1"], ("::1",)),
    ],
)
def test_server_claims_all_it_sends_from_and_no_loopback(
    address: str, found: list[str], claimed: tuple[str, ...]
) -> None:
    """The advertised address is the first; a server on loopback has nothing else to offer."""
    assert claimed_addresses(address, found) == claimed


def test_server_with_too_many_addresses_claims_the_first_of_them() -> None:
    """A certificate has its limits, and so has what a stranger may send."""
    many = [f"10.0.0.{n}" for n in range(100)]
    assert claimed_addresses("10.9.9.9", many) == ("10.9.9.9", *many[: MOST_ADDRESSES - 1])


@given(st.text(max_size=20) | st.from_regex(LABEL) | st.ip_addresses().map(str))
def test_new_name_is_never_what_leads_elsewhere(text: str) -> None:
    """Whatever the system would take for an address is refused, and a host of that name."""
    for parse in (parse_new_name, name_of_host):
        try:
            name = parse(text)
        except InputError:
            continue
        assert name != "localhost"
        with pytest.raises(OSError, match="illegal IP address"):
            socket.inet_aton(name)


@given(st.ip_addresses())
def test_address_comes_out_in_one_form_and_without_another_meaning(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address,
) -> None:
    """What is taken is taken as it is, and reachable ones are some of all."""
    for parse in (parse_address, parse_reachable_address):
        with suppress(InputError):
            assert parse(address.exploded) == str(address)
        with pytest.raises(InputError):
            parse(f"{address}%eth0")
