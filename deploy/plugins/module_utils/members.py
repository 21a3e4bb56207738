# Copyright the Confluent collective developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What a wish about a member needs, decided on what 'collective show --json' told.

It runs nothing, and imports nothing of Ansible: the project's unit tests try it as it is.
"""

from __future__ import annotations

from typing import Any

#: What is to be done about a member.
NOTHING, JOIN, INVITE, DELETE, PROMOTE, DEMOTE, FINISH = (
    "nothing",
    "join",
    "invite",
    "delete",
    "promote",
    "demote",
    "finish",
)


class WishError(Exception):
    """What is wished for cannot be; nothing was changed. The text says why, and what to do."""


def member_of(document: dict[str, Any], name: str) -> dict[str, Any] | None:
    """Return what a document says of a member, or None."""
    members: list[dict[str, Any]] = document.get("members") or []
    return next((member for member in members if member["name"] == name), None)


def fingerprint_of(document: dict[str, Any], name: str) -> str | None:
    """Return the fingerprint of a member's certificate, or None where it is unknown."""
    return (member_of(document, name) or {}).get("certificate_fingerprint")


def listing(document: dict[str, Any]) -> str:
    """Return the members in words, one a line: what --diff shows."""
    lines = [
        "{} ({})".format(member["name"], member["role"])
        for member in document.get("members") or []
    ]
    return "\n".join(lines) + "\n" if lines else "no collective\n"


def with_member(document: dict[str, Any], name: str, role: str | None) -> dict[str, Any]:
    """Return the document as it would be with a member in a role; None takes it out."""
    kept = [m for m in document.get("members") or [] if m["name"] != name]
    if role is not None:
        kept.append({"name": name, "role": role})
    return {"members": sorted(kept, key=lambda m: m["name"])}


def role_of(voting: bool) -> str:
    """Return the role of a member that is to vote, or not."""
    return "voter" if voting else "nonvoting"


def needs_here(document: dict[str, Any], sponsor: str, voting: bool | None) -> str:
    """Return what this host needs to be a member of the collective that a sponsor belongs to.

    Args:
        document: what 'show' told on this host.
        sponsor: name of the member that takes it in.
        voting: whether it is to vote.

    Raises:
        WishError: this host belongs to other servers already.
    """
    own = document["name"]
    mode = document["mode"]
    sponsor = sponsor.lower()
    if mode in ("adopting", "joining"):
        return FINISH
    names = [member["name"] for member in document.get("members") or []]
    if mode in ("member", "nonvoting") and (sponsor == own or sponsor in names):
        return changed_role(member_of(document, own), voting)
    if mode in ("member", "nonvoting") and len(names) > 1:
        raise WishError(
            "{own} is in a collective with {others} already, and {sponsor} is not in it; "
            "take it out first: collective delete, on {own}".format(
                own=own, others=", ".join(n for n in names if n != own), sponsor=sponsor
            )
        )
    return JOIN


def changed_role(member: dict[str, Any] | None, voting: bool | None) -> str:
    """Return what makes a member vote, or not vote.

    Args:
        member: what a document says of it, or None where it is not in it yet.
        voting: whether it is to vote; None leaves it as it is.
    """
    if voting is None or member is None or member["role"] in ("learner", role_of(voting)):
        return NOTHING
    return PROMOTE if voting else DEMOTE


def needs_there(document: dict[str, Any], name: str, state: str, voting: bool | None) -> str:
    """Return what a member is to do about another server.

    Args:
        document: what 'show' told on the member.
        name: of the other server.
        state: present, invited or absent.
        voting: whether it is to vote; None leaves it as it is.

    Raises:
        WishError: only the server itself can do that.
    """
    member = member_of(document, name.lower())
    if state == "absent":
        return NOTHING if member is None else DELETE
    if state == "invited":
        # A join that was cut off has left a learner, and is finished with a new token.
        full = member is not None and member["role"] != "learner"
        return NOTHING if full else INVITE
    if member is None:
        raise WishError(f"{name} is no member: run this on {name} with a sponsor and a token")
    return changed_role(member, voting)
