"""The addresses that this machine has.

It asks the kernel each time: addresses come and go.
"""

from __future__ import annotations

import ipaddress

import ifaddr


def local_addresses() -> list[str]:
    """Return the IP addresses of all interfaces, in their order, each once.

    Link-local addresses are left out: without their zone, which neither a certificate nor
    another server can hold, they lead nowhere.
    """
    found = (
        ip.ip if isinstance(ip.ip, str) else ip.ip[0]
        for adapter in ifaddr.get_adapters()
        for ip in adapter.ips
    )
    return [a for a in dict.fromkeys(found) if not ipaddress.ip_address(a).is_link_local]


def is_local(address: str) -> bool:
    """Tell whether an IP address is one of this machine's; all of 127.0.0.0/8 is."""
    parsed = ipaddress.ip_address(address)
    if parsed.version == 4 and parsed.is_loopback:
        return True
    return any(ipaddress.ip_address(found) == parsed for found in local_addresses())
