"""Every command line, so that each can be tried in every state of etcd and daemon.

It tries nothing itself. ``LINES`` is compared with the parser: a command, or an option that makes
something else of one, that is not in it is found out.

Invariants:
  * What is typed changes nothing that a later line needs: it asks, or names a server that is not
    there, as far as the command lets one.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

from collective.cli.parser import make_parser

#: Options that leave a command what it is.
_NO_OTHER = {
    "help", "json", "force", "nonvoting", "ttl", "server", "token", "address"
}  # fmt: skip
#: In the place of a member that can be asked for a join, and of one that is not asked.
SPONSOR, OTHER = "SPONSOR", "mgt3"
_NOBODY = "mgt99"

#: By the line, what is typed.
LINES: dict[str, tuple[str, ...]] = {
    "show": ("show",),
    "show --names": ("show", "--names"),
    "invite": ("invite", _NOBODY),
    "invite --list": ("invite", "--list"),
    "invite --revoke": ("invite", "--revoke", "mgt98"),
    "invite --dry-run": ("invite", "--dry-run", _NOBODY),
    "invite --replace": ("invite", "--replace", _NOBODY),
    "join": ("join", SPONSOR, "-i", "-"),
    "join --check": ("join", "--check", SPONSOR),
    "join --dry-run": ("join", "--dry-run", SPONSOR, "-i", "-"),
    "join --abort": ("join", "--abort"),
    "delete": ("delete", _NOBODY),
    "delete --dry-run": ("delete", "--dry-run"),
    "promote": ("promote", _NOBODY),
    "promote --dry-run": ("promote", "--dry-run", OTHER),
    "demote": ("demote", _NOBODY),
    "demote --dry-run": ("demote", "--dry-run", OTHER),
    "gencert": ("gencert",),
    "readdress": ("readdress", "--address", "198.51.100.7"),
    "readdress --member": ("readdress", "--member", f"{OTHER}=127.0.0.99"),
}


def lines_of_parser() -> Iterator[str]:
    """Yield each command, and each command with an option that makes something else of it."""
    (commands,) = (
        action
        for action in make_parser()._actions
        if isinstance(action, argparse._SubParsersAction)
    )
    for name, parser in commands.choices.items():
        yield name
        for action in parser._actions:
            if action.dest not in _NO_OTHER:
                yield f"{name} {action.option_strings[-1]}"
