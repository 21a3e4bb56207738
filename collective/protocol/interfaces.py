"""The addresses that this machine has, and who is connected to it.

It asks the kernel each time: addresses and connections come and go.
"""

from __future__ import annotations

import ipaddress
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import ifaddr


def local_addresses() -> list[str]:
    """Return the IP addresses of all interfaces, in their order, each once.

    Link-local addresses of IPv6 are left out: without their zone, which neither a certificate nor
    another server can hold, they lead nowhere.
    """
    return list(dict.fromkeys(address for _, address in _found()))


def interface_of(address: str) -> str | None:
    """Return the name of the first interface that has an address, None where none has."""
    return next((name for name, found in _found() if found == address), None)


_ROUTES, _ROUTES6 = Path("/proc/net/route"), Path("/proc/net/ipv6_route")
#: Destinations of IPv6 that lead to nobody in particular: of the link, and of many.
_NO_DESTINATION = ("fe", "ff")
#: A prefix of all bits: one address, which is this machine's own wherever we ask.
_ONE_ADDRESS = "80"
#: Flag of a route that refuses (RTF_REJECT, uapi/linux/route.h).
_REFUSES = 0x0200


def is_routed(interface: str, version: int) -> bool:
    """Tell whether a route to other machines leads over an interface; also if that is not known.

    Args:
        interface: its name.
        version: of IP, 4 or 6.
    """
    try:
        lines = (_ROUTES if version == 4 else _ROUTES6).read_text("ascii").splitlines()
    except OSError:
        return True
    fields = [line.split() for line in lines]
    if version == 4:
        return any(row[0] == interface for row in fields[1:])
    return any(
        row[9] == interface
        and not row[0].startswith(_NO_DESTINATION)
        and row[1] != _ONE_ADDRESS
        and not int(row[8], 16) & _REFUSES
        for row in fields
    )


def _found() -> Iterator[tuple[str, str]]:
    for adapter in ifaddr.get_adapters():
        for ip in adapter.ips:
            address = ip.ip if isinstance(ip.ip, str) else ip.ip[0]
            parsed = ipaddress.ip_address(address)
            if parsed.version == 4 or not parsed.is_link_local:
                yield str(adapter.name), address


def is_local(address: str) -> bool:
    """Tell whether an IP address is one of this machine's; all of 127.0.0.0/8 is."""
    parsed = ipaddress.ip_address(address)
    if parsed.version == 4 and parsed.is_loopback:
        return True
    return any(ipaddress.ip_address(found) == parsed for found in local_addresses())


def source_towards(address: str) -> str | None:
    """Return the address that this machine would send from to reach an address; None: no way.

    Connecting a datagram socket sends nothing.
    """
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    try:
        with socket.socket(family, socket.SOCK_DGRAM) as probe:
            probe.connect((address, 9))
            return str(probe.getsockname()[0])
    except OSError:
        return None


_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")
_ESTABLISHED = "01"


def connected_to(port: int) -> frozenset[str]:
    """Return the addresses that have an established TCP connection to a port of this machine.

    Source: proc_net_tcp.rst of the kernel; addresses are groups of four bytes, each in the order
    of this machine.
    """
    return frozenset(
        remote
        for table in _TABLES
        for local_port, remote in _connections(Path(table))
        if local_port == port
    )


def _connections(table: Path) -> Iterator[tuple[int, str]]:
    try:
        lines = table.read_text("ascii").splitlines()[1:]
    except OSError:
        return
    for line in lines:
        fields = line.split()
        if fields[3] == _ESTABLISHED:
            yield int(fields[1].partition(":")[2], 16), _address(fields[2].partition(":")[0])


def _address(text: str) -> str:
    raw = bytes.fromhex(text)
    ordered = b"".join(
        int.from_bytes(raw[i : i + 4], sys.byteorder).to_bytes(4, "big")
        for i in range(0, len(raw), 4)
    )
    address = ipaddress.ip_address(ordered)
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
