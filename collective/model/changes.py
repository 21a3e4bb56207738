"""A change of the voters as a table: what may follow what, and what becomes of the member.

    the last change     begin        make
    none                under way    -
    under way           -            done
    done                under way    -

Any kind may follow any other: each is decided on etcd's own voters of now. It writes nothing;
``etcd.record_store`` writes what this says, in one transaction for each of the two.

Invariants:
  * What is not in the table is an error of ours: it raises. Who wants to begin beside another
    change is refused before (``policy.membership``).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

from collective.model.records import Change, ChangeKind, MemberRecord, Role


@dataclass(frozen=True)
class Effect:
    """What a kind of change does to the record of its member.

    Attributes:
        begun: returns the record as long as the change is under way.
        made: returns the record of then; None: it goes, and its certificates are revoked.
    """

    begun: Callable[[MemberRecord], MemberRecord]
    made: Callable[[MemberRecord], MemberRecord | None]


EFFECTS: Mapping[ChangeKind, Effect] = {
    ChangeKind.REMOVE: Effect(lambda member: member, lambda _: None),
    ChangeKind.DEMOTE: Effect(
        lambda member: replace(member, target=Role.NONVOTING), MemberRecord.as_nonvoting
    ),
}


class TransitionError(Exception):
    """Something happened that cannot happen to what is there: an error of ours."""


def begin(last: Change | None, kind: ChangeKind, member: MemberRecord, by: str) -> Change:
    """Return a change of a member that begins, after the last one.

    Raises:
        TransitionError: the last one is under way.
    """
    if last is not None and not last.done:
        raise TransitionError(f"{kind.value} cannot begin: another change is under way: {last}")
    return Change(kind, member.name, member.member_id, by, done=False)


def make(change: Change) -> Change:
    """Return a change when it is made.

    Raises:
        TransitionError: it is made already.
    """
    if change.done:
        raise TransitionError(f"a change cannot be made twice: {change}")
    return replace(change, done=True)
