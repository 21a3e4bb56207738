"""May a server have this address, and which one is its new one? Pure functions.

Safety property: an address is changed by itself only when nothing else can be meant, and never to
one that another member has.

Whether the address leads to the server is found out by dialling it, see
``daemon.addresses.readdress``.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace

from collective.errors import RefusedError
from collective.model.names import is_vacant, vacant_address
from collective.model.records import MemberRecord, Role, to_json
from collective.model.view import View, member_key
from collective.policy.membership import check_no_change_under_way


@dataclass(frozen=True)
class OwnAddresses:
    """What a server knows of its own addresses.

    Attributes:
        current: the one that the others have.
        setting: the one that the settings give, None where they give none.
        local: what its interfaces have.
        sources: what it would send from to the other members, as the kernel says.
    """

    current: str
    setting: str | None
    local: Sequence[str]
    sources: Sequence[str]

    def has(self, address: str) -> bool:
        """Tell whether an address is on this server; all of 127.0.0.0/8 is."""
        parsed = ipaddress.ip_address(address)
        return (parsed.version == 4 and parsed.is_loopback) or address in self.local


def new_address(found: OwnAddresses) -> str | None:
    """Return the address to change to without being asked, None when there is nothing to do.

    Raises:
        RefusedError: the current address is gone, or not the one of the settings, and it is not
            clear which one is to take its place.
    """
    if found.setting is not None:
        if found.setting == found.current:
            return None
        if found.has(found.setting):
            return found.setting
        raise RefusedError(
            f"the setting 'address' gives {found.setting}, which this server does not have",
            "correct the settings file, or set the address up, and restart collectived",
        )
    if found.has(found.current):
        return None
    family = ipaddress.ip_address(found.current).version
    usable: list[str] = []
    for candidates in (found.sources, found.local):
        usable = sorted({a for a in candidates if _is_usable(a, family) and found.has(a)})
        if len(usable) == 1:
            return usable[0]
    told = f"this server has {', '.join(usable)}" if usable else "it has no other"
    raise RefusedError(
        f"the address of this server, {found.current}, is gone, and {told}",
        "run 'collective readdress --address ADDRESS', or bring the address back",
    )


def plain(address: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Return an address such that two that lead to one place are equal.

    The IPv4 address within an IPv6 one (``::ffff:10.0.0.1``, RFC 4291, 2.5.5.2) is that address.

    Raises:
        ValueError: it is none.
    """
    parsed = ipaddress.ip_address(address.partition("%")[0])
    mapped = parsed.ipv4_mapped if isinstance(parsed, ipaddress.IPv6Address) else None
    return mapped or parsed


def is_zoned(address: str) -> bool:
    """Tell whether an address leads nowhere without its zone: a link-local one of IPv6."""
    parsed = plain(address)
    return parsed.version == 6 and parsed.is_link_local


#: How the interfaces begin that programs make for what runs on one machine.
_INNER = (
    "br-",
    "cali",
    "cbr",
    "cni",
    "docker",
    "flannel",
    "lxc",
    "lxd",
    "podman",
    "veth",
    "virbr",
)


def doubt_of(address: str, interface: str | None, routed: bool = True) -> str | None:
    """Return why others may not reach a server at the address that it has found, None for none.

    Args:
        address: it; what a person has set is not doubted.
        interface: which one has it, None where none has.
        routed: whether a route to other machines leads over that.
    """
    parsed = plain(address)
    if parsed.is_loopback:
        return f"{address} is reached from this server only"
    if parsed.is_link_local:
        return f"{address} is a link-local address, which another server may have, too"
    if interface is not None and interface.startswith(_INNER):
        return f"{address} is on {interface}, and other servers may have the same there"
    if not routed:
        return f"{address} is on {interface}, over which no route leads to other servers"
    return None


def certifiable(view: View, name: str, claimed: Sequence[str]) -> list[str]:
    """Return which addresses the certificate of a server may name: none that is another member's.

    etcd compares a certificate with where a connection comes from. From a loopback address the
    kernel sends as 127.0.0.1 or ::1, whichever server it is.

    Args:
        view: the records.
        name: of the server.
        claimed: what it says it has, the advertised one first.
    """
    others = _others_addresses(view, name)
    shared = _LOOPBACK if plain(claimed[0]).is_loopback else ()
    return [a for a in claimed if a in shared or plain(a) not in others]


def check_certified(view: View, name: str, address: str, named: Sequence[str]) -> None:
    """Refuse a certificate that names what is not its server's.

    Args:
        view: the records.
        name: of the server.
        address: that it advertises.
        named: what its certificate names besides the name.

    Raises:
        RefusedError: it does not name the advertised address, or names another member's, or a
            host.
    """
    try:
        addresses = [plain(a) for a in named]
    except ValueError:
        raise RefusedError(
            f"the certificate of {name} names a host, expected IP addresses and {name} alone",
            f"run 'collective gencert' on {name}",
        ) from None
    if plain(address) not in addresses:
        raise RefusedError(
            f"the certificate of {name} does not name its address {address}",
            f"run 'collective gencert' on {name}",
        )
    allowed = {plain(a) for a in certifiable(view, name, [address, *named])}
    for found in addresses:
        if found not in allowed:
            owner = _others_addresses(view, name)[found]
            raise RefusedError(
                f"the certificate of {name} names {found}, which is the address of {owner}",
                f"run 'collective gencert' on {name}, which must not have that address",
            )


def check_advertised(view: View, name: str, here: str, address: str) -> None:
    """Refuse an address at which a server that wants in cannot be, before it is dialled.

    Args:
        view: the records.
        name: of the server.
        here: the address of the member that would dial.
        address: that the server advertises.

    Raises:
        RefusedError: it is another member's, leads to the dialling member itself, or nowhere.
    """
    parsed = plain(address)
    owner = _others_addresses(view, name).get(parsed)
    if owner is not None:
        raise RefusedError(f"cannot take in {name}: {address} is the address of {owner}")
    if parsed.is_loopback and not plain(here).is_loopback:
        raise RefusedError(
            f"cannot take in {name}: the loopback address {address} is reached from its own "
            "server only",
            f"set 'address' in the settings file of {name}",
        )
    # From a link-local address one reaches others of that link; from elsewhere it may be anything,
    # such as what a cloud tells its machines.
    astray = parsed.is_link_local and (is_zoned(address) or not plain(here).is_link_local)
    if parsed.is_multicast or parsed.is_unspecified or astray:
        raise RefusedError(f"cannot take in {name}: {address} is no address of one server")


_LOOPBACK = ("127.0.0.1", "::1")


def _others_addresses(
    view: View, name: str
) -> dict[ipaddress.IPv4Address | ipaddress.IPv6Address, str]:
    return {plain(m.address): n for n, m in view.members.items() if n != name}


def _is_usable(address: str, family: int) -> bool:
    parsed = ipaddress.ip_address(address)
    return parsed.version == family and not parsed.is_loopback and not parsed.is_link_local


def owner_of(view: View, address: str, but: str) -> MemberRecord | None:
    """Return the member, another than one, that has an address by the records."""
    name = _others_addresses(view, but).get(plain(address))
    return None if name is None else view.members[name]


def vacated(member: MemberRecord) -> MemberRecord:
    """Return the record of a member whose address another member has now."""
    return replace(member, address=vacant_address(member.name))


def vacating(view: View, names: Collection[str]) -> View:
    """Return the records with some members at no address."""
    puts = {
        member_key(name): replace(
            view.items[member_key(name)], value=to_json(vacated(member)).encode()
        )
        for name, member in view.members.items()
        if name in names
    }
    return view.updated(view.revision, puts, ())


def check_readdress(
    view: View, name: str, address: str, gone: Collection[str] = ()
) -> MemberRecord:
    """Refuse a new address that must not be; return the record of its server.

    Args:
        view: the records.
        name: of the server.
        address: its new one.
        gone: members that were found not to be at their recorded address. One that votes gives
            its address up to another that votes only.

    Raises:
        RefusedError: the server is no member, or a learner (a member update would make a voter
            of it, etcd issue 21694); a change of the voters is under way; another member has the
            address; or the members could not reach each other, since some are on loopback.
    """
    doing = f"change the address of {name} to {address}"
    member = view.members.get(name)
    if member is None:
        raise RefusedError(f"cannot {doing}: it is not a member")
    if member.role is Role.LEARNER:
        raise RefusedError(
            f"cannot {doing}: it is still being taken in",
            "wait until 'collective show' lists it as active",
        )
    check_no_change_under_way(view)
    others = {n: m.address for n, m in view.members.items() if n != name}
    owner = owner_of(view, address, name)
    if owner is not None and (owner.name not in gone or (owner.is_peer and not member.is_peer)):
        raise RefusedError(
            f"cannot {doing}: that is the address of {owner.name}",
            f"if {owner.name} has another address now, start it, or delete it",
        )
    _check_loopback(doing, address, others)
    return member


def _check_loopback(doing: str, address: str, others: dict[str, str]) -> None:
    here = plain(address).is_loopback
    for name, other in others.items():
        if not is_vacant(other) and plain(other).is_loopback is not here:
            raise RefusedError(
                f"cannot {doing}: a loopback address is reached from its own server only, and "
                f"{name} is at {other}"
            )
