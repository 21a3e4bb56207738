"""How long each command line may take until it tells its next step or its end.

It measures nothing: ``collective.client`` gives up by it, and the manual has it as a table.

Invariants:
  * Every command of the parser, and each of its options that makes something else of it, has an
    entry; ``tests/unit/cli/test_deadlines.py`` compares.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

#: Of a daemon that hangs; one that is at work says so twice a second.
SILENCE_SECONDS = 5.0
#: Until what cannot be begun, with no quorum or an etcd that hangs, is refused.
REFUSED_SECONDS = 10.0

_LOOK, _ASK, _CHECK, _CHANGE, _WAIT = 10.0, 15.0, 90.0, 60.0, 600.0
#: Without a step or an answer, while the daemon is at work.
SECONDS = {
    "show": 6.0,
    "show --names": 2.0,
    "invite": _ASK,
    "invite --list": _LOOK,
    "invite --revoke": _LOOK,
    "invite --dry-run": _LOOK,
    "invite --replace": _CHANGE,
    "join": _WAIT,
    "join --check": _CHECK,
    "join --dry-run": _CHECK,
    "join --abort": 120.0,
    "delete": _CHANGE,
    "delete --dry-run": _LOOK,
    "promote": _WAIT,
    "promote --dry-run": _LOOK,
    "demote": _CHANGE,
    "demote --dry-run": _LOOK,
    "gencert": _CHANGE,
    "readdress": _CHANGE,
    "readdress --member": _ASK,
}
_USUAL = (None, "make", "join")


def line_of(options: Any) -> str:
    """Return which of these the options of a command make."""
    command: str = options.command
    if getattr(options, "dry_run", False):
        return f"{command} --dry-run"
    if getattr(options, "members", None):
        return f"{command} --member"
    if getattr(options, "names", False):
        return f"{command} --names"
    action = getattr(options, "action", None)
    return command if action in _USUAL else f"{command} --{action}"


def seconds_of(options: Any) -> float:
    """Return the deadline of what was typed."""
    return SECONDS[line_of(options)]
