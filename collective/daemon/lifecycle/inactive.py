"""Why this server is a member of nothing, in words, and the way back.

Pure: it looks at nothing but the plan.
"""

from __future__ import annotations

from collections.abc import Sequence

from collective.errors import CollectiveError, DaemonError, LostError, RefusedError, RemovedError
from collective.model.plan import Mode, Plan


def deleted_by(name: str, who: Sequence[str]) -> RemovedError:
    """Return the error of a server that was deleted, by what others say, and does not rest yet.

    Args:
        name: of this server.
        who: say so; none of the others says that it is a member.
    """
    told = f"{' and '.join(who)} {'says' if len(who) == 1 else 'say'}"
    return RemovedError(
        f"{name} was deleted from its collective, {told}",
        "when enough of the voters say so its data is moved aside; to come back: "
        f"'collective invite {name}' on a member and then 'collective join' here",
    )


def idle_error(plan: Plan, trouble: CollectiveError | None = None) -> CollectiveError:
    """Return the error of a server that is a member of nothing.

    Args:
        plan: what it is.
        trouble: what keeps it between two lives, None for nothing.
    """
    if trouble is None and plan.mode in (Mode.MEMBER, Mode.LEAVING, Mode.NONVOTING):
        return DaemonError(
            f"{plan.name} is between two lives for a moment", "try again when it is over"
        )
    told = f": {trouble.message}" if trouble is not None else ""
    mend = f"{trouble.hint}; then" if trouble is not None and trouble.hint else "mend that and"
    if plan.mode in (Mode.MEMBER, Mode.JOINING) and trouble is not None:
        return CollectiveError(
            f"{plan.name} is not started{told}",
            f"{mend} restart collectived: 'systemctl restart collectived'",
        )
    if plan.mode is Mode.LEAVING:
        return CollectiveError(
            f"{plan.name} was deleted, and its data could not be moved aside{told}",
            f"{mend} restart collectived: 'systemctl restart collectived'",
        )
    if plan.mode is Mode.ADOPTING and trouble is not None:
        return CollectiveError(
            f"{plan.name} was taken in, and its former data could not be moved aside{told}",
            f"{mend} restart collectived: 'systemctl restart collectived'",
        )
    if plan.mode is Mode.NONVOTING:
        return CollectiveError(
            f"{plan.name} does not vote any more, and its data could not be moved aside{told}",
            f"{mend} restart collectived: 'systemctl restart collectived'",
        )
    if plan.mode is Mode.LOST:
        alone = "" if plan.existing else "; if this was the only member: 'collective gencert' here"
        return LostError(
            plan.reason,
            "put the newest data back and restart collectived; if it is gone for good: "
            f"'collective invite --replace {plan.name}' on a member, then 'collective join' here"
            f"{alone}",
        )
    if plan.mode is not Mode.REMOVED:
        return RefusedError(
            f"{plan.name} has not finished to join",
            "run the same 'collective join' again, with the same token; to give it up, run "
            "'collective join --abort'",
        )
    where = plan.former_data
    return RemovedError(
        plan.reason + (f"; its former data is in {where}" if where else ""),
        f"to come back: 'collective invite {plan.name}' on a member and 'collective join' here; "
        "for a new collective of one: 'collective gencert' here",
    )
