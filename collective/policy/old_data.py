"""May etcd start on this data? Not on what is older than it was, nor on another member's.

Safety property: a member that starts has every entry that it was ever known to have, so it has
forgotten no vote and no acknowledged write.

It reads nothing; what is on the disk and what is remembered come in.
"""

from __future__ import annotations

from collections.abc import Mapping

from collective.model.high_water_mark import HighWaterMark


def objection(
    name: str, member_id: str, found: HighWaterMark, known: Mapping[str, HighWaterMark]
) -> str | None:
    """Return why etcd must not start on the data that is here, or None.

    Args:
        name: of this server.
        member_id: which member it is, in hex; "" where nobody has noted it.
        found: whose data it is ("" where it does not say), and how far its log goes.
        known: what is remembered of this server, by who remembers it.
    """
    if found.member_id and member_id and found.member_id != member_id:
        return (
            f"the data of etcd here is that of another member: found {found.member_id}, "
            f"{name} is {member_id}"
        )
    ours = {who: p for who, p in known.items() if p.member_id == (found.member_id or member_id)}
    for who, promise in sorted(ours.items(), key=lambda item: -item[1].index):
        if promise.index > found.index or promise.term > found.term:
            return (
                f"the data of {name} is old: its log ends at entry {found.index} of term "
                f"{found.term}, {who} remembers entry {promise.index} of term {promise.term}"
            )
    return None
