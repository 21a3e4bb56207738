"""When a re-keying begins, which phase comes next, and who is waited for.

Safety property: no server shows a certificate that another one does not trust. A new CA is used
only when every member trusts it, and the old one is dropped only when no member uses it.

It does not observe and does not act.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from collective.model.records import Change, ChangeKind, MemberRecord, Phase, Rekey, Role


@dataclass(frozen=True)
class Keys:
    """What a server says of the CAs that it uses; each is named by its pin, in hex.

    Attributes:
        trusts: those that its etcd trusts (on a server without etcd: its door).
        issuer: the one that its certificate is from.
        holds: those of which it has the private key.
    """

    trusts: frozenset[str]
    issuer: str
    holds: frozenset[str]


def is_under_way(rekey: Rekey | None) -> bool:
    """Tell whether a re-keying has begun and is not done."""
    return rekey is not None and rekey.phase is not Phase.DONE


def wanted_because(change: Change | None, rekey: Rekey | None) -> str | None:
    """Return why a re-keying is wanted that has not begun, for people; None where none is.

    A removal may want one while another is under way: the server that was deleted may have been
    given the key that is about to come.

    Args:
        change: the last change of the voters.
        rekey: the last re-keying.
    """
    if change is not None and change.rekey:
        # A demotion has it from a removal before it.
        named = change.kind is ChangeKind.REMOVE
        return f"{change.name} was deleted" if named else "a server was deleted"
    if rekey is not None and rekey.phase is Phase.DONE and rekey.again:
        return rekey.reason
    return None


def reason_to_begin(change: Change | None, rekey: Rekey | None) -> str | None:
    """Return why whoever leads is to begin one now: not before the change is made."""
    made = change if change is not None and change.done else None
    return wanted_because(made, rekey)


def is_wanted(change: Change | None, rekey: Rekey | None) -> bool:
    """Tell whether a re-keying is under way, or is to be begun by whoever leads."""
    return is_under_way(rekey) or wanted_because(change, rekey) is not None


def issuers_differ(change: Change | None, rekey: Rekey | None) -> bool:
    """Tell whether members may show certificates of two CAs, now or soon.

    A token names one CA, so one that is made now would not fit all of them. From the last phase
    on, all show one of the new CA.
    """
    if rekey is None or rekey.phase in (Phase.DROP, Phase.DONE):
        return wanted_because(change, rekey) is not None or (rekey is not None and rekey.again)
    return True


_NEXT = {
    Phase.TRUST: Phase.ISSUE,
    Phase.ISSUE: Phase.DROP,
    Phase.DROP: Phase.DONE,
    Phase.DONE: Phase.DONE,
}


def next_phase(phase: Phase) -> Phase:
    """Return the phase that follows when nobody is waited for."""
    return _NEXT[phase]


def has_done(phase: Phase, pin: str, role: Role, keys: Keys) -> bool:
    """Tell whether a server has done its part of a phase.

    Args:
        phase: of the re-keying.
        pin: of the new CA.
        role: of the server.
        keys: what it says of itself.
    """
    if phase is Phase.TRUST:
        return pin in keys.trusts and (role is not Role.VOTER or pin in keys.holds)
    if phase is Phase.ISSUE:
        return keys.issuer == pin and (role is not Role.VOTER or pin in keys.holds)
    return phase is Phase.DONE or (keys.trusts == {pin} and keys.issuer == pin)


def waiting_for(
    phase: Phase,
    pin: str,
    members: Mapping[str, MemberRecord],
    reported: Mapping[str, Keys | None],
) -> tuple[str, ...]:
    """Return the members that have not done their part of a phase, or do not say so.

    A learner is waited for: it becomes a voter, or is given up, soon.
    """
    return tuple(
        name
        for name, member in members.items()
        if (keys := reported.get(name)) is None
        or member.role is Role.LEARNER
        or not has_done(phase, pin, member.role, keys)
    )


def is_orphaned(phase: Phase, pin: str, reported: Mapping[str, Keys | None]) -> bool:
    """Tell whether nobody who answers has the new CA's key, while that does no harm yet."""
    held = any(keys is not None and pin in keys.holds for keys in reported.values())
    return phase is Phase.TRUST and not held
