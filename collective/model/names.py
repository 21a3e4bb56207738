"""Server names and network addresses: what is valid, how they sort, how they are written.

It does not resolve names; see ``collective.protocol.resolve``.

Invariants:
  * A server name is one host name label (RFC 1123, section 2.1): 1 to 63 letters, digits and
    hyphens, no hyphen at either end. It is kept in lower case.
  * A new one leads to a server: it is not ``localhost``, and nothing that inet_aton(3) takes for
    an IPv4 address. Older ones are let be.
"""

from __future__ import annotations

import hashlib
import ipaddress
import re
from collections.abc import Iterable

from collective.errors import InputError

#: How many addresses a server may ask to be certified for.
MOST_ADDRESSES = 16

_VACANT = ipaddress.IPv6Network("100::/64")
_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?")
_NUMBER = re.compile(r"[0-9]+|0x[0-9a-f]*")
_OTHER = "give it another name, of letters, digits and hyphens, that leads to it from everywhere"
_SERVICE = re.compile(r"[a-z0-9][a-z0-9-]{0,39}")
_RULE = (
    "a server name is one host name label: 1 to 63 letters, digits and hyphens, "
    "no hyphen at either end"
)


def parse_server_name(text: str) -> str:
    """Return a server name in its stored form.

    Args:
        text: the name as somebody typed it.

    Raises:
        InputError: it is not a host name label.
    """
    name = text.lower()
    if text.isascii() and _LABEL.fullmatch(name):
        return name
    hint = _RULE
    first = name.split(".", 1)[0]
    if text.isascii() and "." in name and _LABEL.fullmatch(first):
        hint = f"{_RULE}; without the domain it would be {first}"
    raise InputError(f"{text[:80]!r} is not a server name", hint)


def leads_elsewhere(label: str) -> bool:
    """Tell whether the last part of a host name leads each machine to itself, or is a number.

    A number is read as an IPv4 address by inet_aton(3), hexadecimal ones too; ``localhost`` is
    kept for the machine itself (RFC 6761, section 6.3).
    """
    return label == "localhost" or _NUMBER.fullmatch(label) is not None


def parse_new_name(text: str) -> str:
    """Return the name of a server that has none yet.

    Raises:
        InputError: it is no host name label, or other servers would be led elsewhere by it.
    """
    name = parse_server_name(text)
    if leads_elsewhere(name):
        what = "every machine itself" if name == "localhost" else "read as an IPv4 address"
        raise InputError(f"{text[:80]!r} is not a server name: it is {what}", _OTHER)
    return name


def name_of_host(host_name: str) -> str:
    """Return the server name that the host name of a machine makes: its first label.

    Raises:
        InputError: it makes none.
    """
    if is_ip_address(host_name):
        raise InputError(f"{host_name[:80]!r} is not a server name: it is an IP address", _OTHER)
    return parse_new_name(host_name.split(".")[0])


def parse_address(text: str) -> str:
    """Return an IP address in the one form that all servers and certificates have it in.

    Raises:
        InputError: it is none, or one that depends on the machine it is used on.
    """
    found = repr(text[:80])
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        raise InputError(f"{found} is not an IP address") from None
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is not None:
            mapped = str(address.ipv4_mapped)
            raise InputError(f"{found} is an IPv4 address in the form of IPv6", f"write {mapped}")
        if address.scope_id is not None or address.is_link_local:
            raise InputError(
                f"{found} is good on one link alone, and needs a zone that other servers have not",
                "give an address that leads here from everywhere",
            )
    return str(address)


def parse_reachable_address(text: str) -> str:
    """Return an IP address that one server may have.

    Raises:
        InputError: as ``parse_address``, or it is that of no or of many servers.
    """
    address = ipaddress.ip_address(parse_address(text))
    first = address.packed[0]
    # RFC 1122, section 3.2.1.3, and RFC 1112, section 4: 0 is this network, 240 to 255 are kept.
    nobody = address.is_unspecified if address.version == 6 else first == 0 or first >= 240
    if nobody or address.is_multicast:
        raise InputError(
            f"{text[:80]!r} is not the address of a server",
            "give one under which other servers reach this one",
        )
    return str(address)


def check_service_name(text: str) -> None:
    """Refuse what is no name for a service that other servers call.

    Raises:
        InputError: it is not 1 to 40 lower-case letters, digits and hyphens.
    """
    if not _SERVICE.fullmatch(text):
        raise InputError(
            f"{text[:80]!r} is no name for a service",
            "1 to 40 lower-case letters, digits and hyphens, no hyphen first",
        )


def natural_key(name: str) -> tuple[tuple[int, int, str], ...]:
    """Return a sort key that puts mgt2 before mgt10."""
    parts = re.findall(r"\d+|\D+", name)
    return tuple((0, int(part), "") if part.isdecimal() else (1, 0, part) for part in parts)


def bracketed(address: str) -> str:
    """Return an address as a URL holds it: an IPv6 address goes into brackets (RFC 3986)."""
    return f"[{address}]" if ":" in address else address


def is_ip_address(text: str) -> bool:
    """Tell whether the text is an IPv4 or IPv6 address rather than a host name."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def certified_addresses(addresses: Iterable[str]) -> list[str]:
    """Return the addresses that a server's certificate is made out for.

    etcd compares a certificate with the *source* of the connection. The kernel sends from
    127.0.0.1 (or ::1) to any loopback address, so a server on such an address gets that one too.
    """
    wanted = list(dict.fromkeys(addresses))
    if any(ipaddress.ip_address(a).is_loopback for a in wanted if is_ip_address(a)):
        wanted += [a for a in ("127.0.0.1", "::1") if a not in wanted]
    return wanted


def claimed_addresses(address: str, found: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses that a server asks to be certified for, the advertised one first.

    A server with several networks sends from the address of the one that leads to the other
    side, so all that it has are among them. Loopback addresses are of no use to others, and a
    server that advertises one has no others.

    Args:
        address: what it advertises.
        found: what its interfaces have.
    """
    if ipaddress.ip_address(address).is_loopback:
        return (address,)
    # Other machines may have the same link-local one, so nobody is known by it who did not say so.
    parsed = ((a, ipaddress.ip_address(a)) for a in found)
    others = (a for a, ip in parsed if not (ip.is_loopback or ip.is_link_local))
    return tuple(dict.fromkeys([address, *others]))[:MOST_ADDRESSES]


def vacant_address(name: str) -> str:
    """Return what stands for the address of a member when another member has that now.

    It leads nowhere: 100::/64 is for what is to be discarded (RFC 6666). Each member has one of
    its own, since etcd wants a URL of its own for each.
    """
    number = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big")
    return str(ipaddress.ip_address(int(_VACANT.network_address) + number))


def is_vacant(address: str) -> bool:
    """Tell whether an address stands for none."""
    return ipaddress.ip_address(address.partition("%")[0]) in _VACANT


def peer_url(address: str, port: int) -> str:
    """Return the URL under which etcd members reach each other."""
    return f"https://{bracketed(address)}:{port}"


def parse_host_port(text: str, default_port: int) -> tuple[str, int]:
    """Split ``host``, ``host:port``, ``[v6]`` or ``[v6]:port``.

    Args:
        text: what the user typed.
        default_port: taken where none is given.

    Raises:
        InputError: the port is no port, the host is empty, or a bracket is missing.
    """
    host, port = text, str(default_port)
    if text.startswith("["):
        host, closed, rest = text[1:].partition("]")
        if not closed or (rest and not rest.startswith(":")):
            raise InputError(f"{text[:80]!r} is not a host, or host:port")
        port = rest[1:] or port
    elif text.count(":") == 1:
        host, _, port = text.partition(":")
    if not host or any(c.isspace() or c in "/@?#" for c in host):
        raise InputError(f"{text[:80]!r} is not a host, or host:port")
    if not (re.fullmatch(r"[0-9]{1,5}", port) and 0 < int(port) < 65536):
        raise InputError(f"{port[:80]!r} in {text[:80]!r} is not a port from 1 to 65535")
    return host, int(port)
