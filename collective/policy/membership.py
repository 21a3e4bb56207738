"""May the voters change so? The forecast, and the refusals that keep promise P1.

Safety property: no change that is allowed here leaves fewer answering voters than the quorum of
the voters that remain.

It does not observe and does not act; the caller counts who answers, once, and decides on that.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass

from collective.errors import InputError, QuorumError, RefusedError
from collective.model.records import Change, ChangeKind, MemberRecord, Role
from collective.model.view import View


def quorum(voters: int) -> int:
    """Return how many of so many voters must answer."""
    return voters // 2 + 1


@dataclass(frozen=True)
class Strength:
    """Numbers of a collective: voters, how many of them answer."""

    voters: int
    answering: int

    @property
    def quorum(self) -> int:
        """Return how many must answer."""
        return quorum(self.voters)

    @property
    def holds(self) -> bool:
        """Tell whether enough answer."""
        return self.answering >= self.quorum

    @property
    def spare(self) -> int:
        """Return how many more may be lost with the quorum still there."""
        return max(0, self.answering - self.quorum)


@dataclass(frozen=True)
class Observed:
    """What a decision about membership is made on.

    Attributes:
        here: the server that decides.
        view: the records, read linearizably.
        voters: names of etcd's voters, after that read: the truth, where a record is behind.
        answering: names of members whose daemon and etcd answered just now, ``here`` included,
            and that have, if they vote, what was committed after they were to be asked.
        behind: names of members whose daemon answered, and which do not count all the same.
    """

    here: str
    view: View
    voters: frozenset[str]
    answering: frozenset[str]
    behind: frozenset[str] = frozenset()

    def strength(self, without: str | None = None) -> Strength:
        """Count voters and answering voters, as if one were gone."""
        voters = self.voters - {without}
        return Strength(len(voters), len(voters & self.answering))


def check_invite(view: View, name: str, here: str) -> None:
    """Refuse an invitation for a server that is in.

    Raises:
        RefusedError: the name is a member's.
    """
    if name == here:
        raise RefusedError(f"cannot invite {name}: that is this server")
    if here not in view.members:
        raise RefusedError(
            f"cannot invite {name}: {here} has not finished to start", "try again in a second"
        )
    member = view.members.get(name)
    if member is not None and (member.role is not Role.LEARNER or member.fallback is not None):
        raise RefusedError(
            f"cannot invite {name}: it is a member of this collective",
            f"if {name} was lost and installed anew, run 'collective invite --replace {name}'; "
            f"'collective delete {name}' puts it out",
        )


def check_delete(observed: Observed, name: str, force: bool) -> None:
    """Refuse a deletion that must not be (promise P1).

    Args:
        observed: records and who answers.
        name: the server to delete.
        force: whether a live server other than ``here`` may be deleted.

    Raises:
        InputError: there is no such member.
        RefusedError: it is the last voter, or it is live.
        QuorumError: too few voters would answer.
    """
    _require_member(observed, name, "delete")
    if not observed.voters - {name}:
        raise RefusedError(
            f"cannot delete {name}: it is the only voter of its collective",
            "a collective has at least one server; to join another one, run 'collective join'",
        )
    if name in observed.answering and name != observed.here and not force:
        raise RefusedError(
            f"cannot delete {name}: it is active",
            f"stop it first, run 'collective delete' on {name}, or use --force",
        )
    _check_strength(observed, name)


def check_promote(observed: Observed, name: str) -> None:
    """Refuse to make a voter of a server that is none to be, or at a bad time.

    With k of n voters answering and k a quorum, k+1 of n+1 is one again: so a promotion of a
    server that answers cannot cost it.

    Args:
        observed: records and who answers.
        name: the server to promote.

    Raises:
        InputError: there is no such member.
        RefusedError: it is still being taken in, does not answer, or a change is under way.
        QuorumError: there is no quorum to begin with.
    """
    member = _require_member(observed, name, "promote")
    if member.role is Role.LEARNER and member.fallback is None:
        raise RefusedError(
            f"cannot promote {name}: it is just being taken in", "try again when it is a member"
        )
    if member.role is Role.NONVOTING and name not in observed.answering:
        raise RefusedError(f"cannot promote {name}: it does not answer", f"start {name} first")
    check_no_change_under_way(observed.view)
    _check_holds(observed, f"promote {name}")


def check_demote(observed: Observed, name: str) -> None:
    """Refuse to take the vote of a server where that must not be (promise P1).

    Args:
        observed: records and who answers.
        name: the server to demote.

    Raises:
        InputError: there is no such member.
        RefusedError: it is the last voter, is still being taken in, or does not answer.
        QuorumError: too few voters would answer.
    """
    member = _require_member(observed, name, "demote")
    if member.role is Role.LEARNER:
        raise RefusedError(
            f"cannot demote {name}: it is just becoming a voter", "try again when it is one"
        )
    if not observed.voters - {name}:
        raise RefusedError(
            f"cannot demote {name}: it is the only voter of its collective",
            "'collective promote' another server first",
        )
    if name not in observed.answering:
        if name in observed.behind:
            raise RefusedError(
                f"cannot demote {name}: it answers, but its etcd does not follow the others",
                f"see the log of collectived on {name}, or run 'collective delete {name}'",
            )
        raise RefusedError(
            f"cannot demote {name}: it does not answer",
            f"start it, or if it is lost, run 'collective delete {name}'",
        )
    _check_strength(observed, name, "demote")


def _require_member(observed: Observed, name: str, doing: str) -> MemberRecord:
    members = observed.view.members
    if name not in members:
        known = ", ".join(sorted(members))
        raise InputError(f"cannot {doing} {name}: no such member", f"the members are: {known}")
    return members[name]


def _check_holds(observed: Observed, doing: str) -> None:
    now = observed.strength()
    if not now.holds:
        raise QuorumError(
            f"cannot {doing}: {now.answering} of {now.voters} voters answer, quorum is "
            f"{now.quorum}",
            _way_out(observed, observed.voters),
        )


def _way_out(observed: Observed, of: frozenset[str]) -> str | None:
    """Return what is to be done first for those that do not count, None where all do."""
    absent = sorted(of - observed.answering - observed.behind)
    behind = sorted(of & observed.behind)
    ways = [f"start {' or '.join(absent)}"] if absent else []
    if behind:
        ways.append(f"see why etcd on {' or '.join(behind)} does not follow: is its disk well?")
    return f"{', or '.join(ways)}" + ("" if behind else " first") if ways else None


def _check_strength(observed: Observed, name: str, doing: str = "delete") -> None:
    before, after = observed.strength(), observed.strength(without=name)
    if after.holds:
        return
    raise QuorumError(
        f"cannot {doing} {name}: {after.answering} of {after.voters} voters would remain "
        f"reachable, quorum is {after.quorum} (now {before.answering} of {before.voters}, "
        f"quorum {before.quorum})",
        _way_out(observed, observed.voters - {name}),
    )


def can_be_spared(observed: Observed) -> bool:
    """Tell whether the other voters go on while etcd here is restarted."""
    others = observed.strength(without=observed.here)
    return others.answering >= quorum(len(observed.voters))


def check_restart(observed: Observed, doing: str, spare: bool = True) -> None:
    """Refuse to restart etcd here when the others could not go on, or nobody could come back.

    Two voters cannot do without one of them: there the restart itself is the gap.

    Args:
        observed: records and who answers.
        doing: for the text.
        spare: whether it is to be refused where the others could not go on meanwhile, but could
            with this one when it is back.

    Raises:
        QuorumError: too few others answer.
    """
    others = observed.strength(without=observed.here)
    voters = len(observed.voters)
    if can_be_spared(observed) or others.answering == voters - 1:
        return
    if not spare and observed.strength().holds:
        return
    raise QuorumError(
        f"cannot restart etcd on {observed.here} for {doing}: {others.answering} of {voters} "
        f"voters would answer meanwhile, quorum is {quorum(voters)}",
        _way_out(observed, observed.voters - {observed.here}),
    )


def check_no_change_under_way(view: View) -> None:
    """Refuse to begin a change of the voters beside another one.

    Raises:
        RefusedError: one has begun and is not done.
    """
    change = view.change_under_way
    if change is not None:
        raise RefusedError(
            f"another change is under way: {change.kind.value} {change.name}, by {change.by}",
            "try again in a few seconds; the leader finishes it",
        )


def removal_of(view: View, name: str) -> Change | None:
    """Return the removal of a member that is under way, or that was the last change made.

    A command that was cut off, and is run again, finds what whoever leads has made of it: that
    is what it was run for, and no mistake.
    """
    change = view.change
    if change is None or change.kind is not ChangeKind.REMOVE or change.name != name:
        return None
    return None if change.done and name in view.members else change


def check_admission(view: View, name: str, here: str) -> None:
    """Refuse to take in a server that is in already.

    Raises:
        RefusedError: as above.
    """
    member = view.members.get(name)
    known = member is not None and (member.role is not Role.LEARNER or member.fallback is not None)
    if name == here or known:
        raise RefusedError(f"cannot take in {name}: it is a member already")


def check_addresses(view: View, name: str, addresses: Sequence[str]) -> None:
    """Refuse a server that could not reach the members, or they it, by loopback addresses.

    Raises:
        RefusedError: some addresses are loopback addresses and others are not.
    """
    members = {m.name: m.address for m in view.voters.values()}
    kinds = {ipaddress.ip_address(a).is_loopback for a in (*addresses, *members.values())}
    if len(kinds) < 2:
        return
    told = ", ".join(f"{n} {a}" for n, a in {**members, name: addresses[0]}.items())
    raise RefusedError(
        f"cannot take in {name}: a loopback address is reached from its own server only: {told}",
        "set 'address' in the settings file of the server with the loopback address",
    )


def pause_sentence(restarts: int) -> str:
    """Return what is said before voters' etcds are restarted that cannot be spared.

    Args:
        restarts: how many there will be.
    """
    times = "once" if restarts == 1 else f"{restarts} times"
    return (
        f"writes in the collective will wait {times} for less than a second, while a voter's etcd "
        "is restarted that cannot be spared"
    )


def tolerance_sentence(strength: Strength) -> str:
    """Return the line of ``show`` that says how many more servers may be lost."""
    if strength.spare == 0:
        wanted = " (three servers are needed to survive the loss of one)"
        return "No more servers may be lost" + (wanted if strength.voters < 3 else "")
    servers = "server" if strength.spare == 1 else "servers"
    return f"{strength.spare} more {servers} may be lost"
