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
