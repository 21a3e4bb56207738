"""What can be wrong before a join, one check each, and the one error that all of it makes.

It gathers no facts; ``daemon.joining.preflight`` does, and ``remote_dry_run`` on the other side.

Invariants:
  * One problem is the very error that it is; only several are a PreflightError.
  * A check that could not be made is skipped and says why; it is never called good.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from collective.errors import (
    CollectiveError,
    InputError,
    InvitationError,
    PreflightError,
    RefusedError,
    from_wire,
)
from collective.policy.timing import slow_network_sentence

MOST_SKEW_SECONDS = 600.0
#: etcd makes two files of 64 MB for its log at once, and then its data comes.
LEAST_DISK_BYTES = 256 << 20
_LONGEST_MESSAGE = 2000
_MOST_FINDINGS = 100


@dataclass(frozen=True)
class Finding:
    """The outcome of one check.

    Attributes:
        check: its name.
        message: what was found.
        ok: None where the check could not be made.
        error: what is wrong, where something is.
    """

    check: str
    message: str
    ok: bool | None
    error: CollectiveError | None = None

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form."""
        wire = {"check": self.check, "ok": self.ok, "message": self.message}
        return {**self.error.to_wire(), **wire} if self.error is not None else wire


def good(check: str, message: str) -> Finding:
    """Return the finding that all is well."""
    return Finding(check, message, True)


def skipped(check: str, why: str) -> Finding:
    """Return the finding that a check could not be made."""
    return Finding(check, why, None)


def problem(check: str, error: CollectiveError) -> Finding:
    """Return the finding that something is wrong."""
    return Finding(check, error.message, False, error)


def problems(findings: Iterable[Finding]) -> list[tuple[str, CollectiveError]]:
    """Return what is wrong, with the names of the checks."""
    return [(f.check, f.error) for f in findings if f.error is not None]


def verdict(findings: Iterable[Finding], doing: str) -> CollectiveError | None:
    """Return the error that findings make, None where nothing is wrong.

    Args:
        findings: of all checks.
        doing: for the text, such as "join mgt1".
    """
    found = problems(findings)
    if len(found) < 2:
        return found[0][1] if found else None
    return PreflightError(
        f"cannot {doing}: {len(found)} problems were found, and nothing was changed",
        None,
        found,
    )


def findings_from_wire(raw: object) -> list[Finding]:
    """Read the findings of another server; what has no form is left out."""
    entries = raw[:_MOST_FINDINGS] if isinstance(raw, list) else []
    return [_from_wire(entry) for entry in entries if isinstance(entry, Mapping)]


def _from_wire(raw: Mapping[str, Any]) -> Finding:
    check = str(raw.get("check", ""))[:40]
    if raw.get("ok") is False:
        return problem(check, from_wire({**raw, "problems": None}))
    message = str(raw.get("message", ""))[:_LONGEST_MESSAGE]
    return good(check, message) if raw.get("ok") is True else skipped(check, message)


# The checks ------------------------------------------------------------------------------------


def check_name(invited: str, own: str) -> Finding:
    """Compare the name in the token with that of this server."""
    if invited == own:
        return good("name", f"the token is for {own}, and that is this server")
    return problem(
        "name",
        InvitationError(
            f"the token is for {invited}, this server is {own}",
            f"run 'collective invite {own}' for a token, or set name in the settings file",
        ),
    )


def check_server(host: str, own: str) -> Finding:
    """See that the server to ask is another one, as far as its name tells."""
    if host.lower() == own:
        return problem("server", itself(host))
    return good("server", f"{host} is another server than {own}")


def itself(server: str) -> RefusedError:
    """Return the error of a server that is to join itself."""
    return RefusedError(f"cannot join {server}: that is this server")


def check_address(address: str | None, local: Sequence[str]) -> Finding:
    """See that the address that others are to be told is one of this machine.

    Args:
        address: from the settings, None to take the one that connections come from.
        local: the addresses of this machine.
    """
    if address is None:
        return good("address", "none is set: the one that connections come from is taken")
    if is_here(address, local):
        return good("address", f"{address} is on an interface of this server")
    return problem(
        "address",
        InputError(
            f"the address {address} is on no interface of this server, which has "
            f"{', '.join(local) or 'none'}",
            "mend the setting 'address', or configure the interface",
        ),
    )


def check_disk(folder: str, free: int) -> Finding:
    """See that there is room for the data of etcd.

    Args:
        folder: where the data is.
        free: bytes that the daemon's user may write there.
    """
    if free >= LEAST_DISK_BYTES:
        return good("disk", f"{folder} has {_megabytes(free)} free")
    return problem(
        "disk",
        RefusedError(
            f"{folder} has {_megabytes(free)} free, a member needs {_megabytes(LEAST_DISK_BYTES)}",
            "make room on that file system",
        ),
    )


def check_clock(offset: float, where: str) -> Finding:
    """Tell how far the clocks are apart: a warning at most, since no trust needs them.

    Args:
        offset: seconds that this server is ahead.
        where: the other side, for people.
    """
    away = f"{abs(offset):.0f} s {'ahead of' if offset > 0 else 'behind'} that of {where}"
    if abs(offset) <= MOST_SKEW_SECONDS:
        return good("clock", f"the clock here is {away}")
    return good(
        "clock",
        f"warning: the clock here is {away}; that hinders nothing here, but logs and other "
        "software: set the clocks, for example with chrony",
    )


def check_round_trip(place: str, round_trip: float, election_ms: int) -> Finding:
    """Tell how long a packet takes: a warning at most, since a join does not wait for elections.

    Args:
        place: the other side, for people.
        round_trip: to it and back, in seconds.
        election_ms: as the settings here have it.
    """
    slow = slow_network_sentence(place, round_trip, election_ms)
    if slow is not None:
        return good("timing", f"warning: {slow}")
    return good("timing", f"a packet to {place} and back takes {round_trip * 1000:.0f} ms")


def check_source(seen: str, local: Sequence[str], where: str) -> Finding:
    """See that no address translation is in between.

    etcd compares the certificate of a peer with the source address of its connection, so each
    member would have to know what becomes of this server's address on the way to it.

    Args:
        seen: where our connection came from, as the other side saw it.
        local: the addresses of this machine.
        where: the other side, for people.
    """
    if is_here(seen, local) or ipaddress.ip_address(seen).is_loopback:
        return good("nat", f"{where} sees this server at {seen}")
    return problem(
        "nat",
        RefusedError(
            f"{where} sees this server at {seen}, which is on no interface here: its address is "
            "translated on the way (NAT)",
            "connect the servers without address translation, or set 'address' to a network that "
            "has none",
        ),
    )


def is_here(address: str, local: Sequence[str]) -> bool:
    """Tell whether an address is one of this machine's; all of 127.0.0.0/8 is."""
    parsed = ipaddress.ip_address(address)
    here = {ipaddress.ip_address(known) for known in local}
    return parsed in here or (parsed.version == 4 and parsed.is_loopback)


def _megabytes(count: int) -> str:
    return f"{count >> 20} MiB"
