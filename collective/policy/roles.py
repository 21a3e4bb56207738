"""Which commands about others a member may have a voter carry out.

It carries out none. Who the member is, its certificate and the records have said before.

Safety property: a member that does not vote changes nobody but itself, unless the settings of
the very voter that is asked allow the command.

Pure: it asks nobody.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from collective.errors import InputError, RefusedError
from collective.model.records import MemberRecord, Role

#: Commands that the setting ``nonvoting_commands`` may allow.
ALLOWABLE = ("invite", "delete", "promote", "demote")

#: What a voter carries out for others: the name on the wire, and what has to be allowed for it.
COMMANDS: Mapping[str, tuple[str, ...]] = {
    "invite": ("invite",),
    "revoke": ("invite",),
    "replace": ("invite", "delete"),
    "delete": ("delete",),
    "promote": ("promote",),
    "demote": ("demote",),
}

_TYPED = {"revoke": "invite --revoke", "replace": "invite --replace"}


def check_command(asker: MemberRecord, command: str, allowed: Collection[str], here: str) -> None:
    """Refuse a command that a member may not have carried out.

    Args:
        asker: the record of who asks.
        command: its name on the wire.
        allowed: what the settings here let servers without a vote do.
        here: the voter that is asked.

    Raises:
        InputError: there is no such command.
        RefusedError: it is not for a member that does not vote.
    """
    needed = COMMANDS.get(command)
    if needed is None:
        raise InputError("this is no command that a voter carries out for others")
    if asker.role is Role.VOTER or set(needed) <= set(allowed):
        return
    typed = _TYPED.get(command, command)
    raise RefusedError(
        f"{asker.name} does not vote, and {here} does not {typed} for it",
        f"run 'collective {typed}' on {here}, or allow it there: "
        f"nonvoting_commands = {', '.join(needed)}",
    )
