"""The completions of bash, zsh and fish for ``collective``, made from its parser by shtab.

``tools.manpages`` writes them and checks them, together with the manual pages.

Invariants:
  * What options there are, the parser alone says. Here stands only what a word may be: a member's
    name, which the daemon tells without asking anybody, or that of a host.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator

import shtab

from collective.cli.parser import make_parser

#: By the shell: each finds the file by this name.
PATHS = {
    "bash": "deploy/completion/collective",
    "zsh": "deploy/completion/_collective",
    "fish": "deploy/completion/collective.fish",
}

_NAMES = "collective show --names 2>/dev/null"
_BASH = f"""\
_collective_members() {{ compgen -W "$({_NAMES})" -- "$1"; }}
_collective_hosts() {{ compgen -A hostname -- "$1"; }}
_collective_servers() {{ _collective_members "$1"; _collective_hosts "$1"; }}
"""
_ZSH = f"""\
_collective_members() {{ local -a names; names=(${{(f)"$({_NAMES})"}}); compadd "$@" -a names }}
_collective_places() {{ _collective_members "$@" -S = }}
_collective_servers() {{ _collective_members "$@"; _hosts "$@" }}
"""
_MEMBERS = {
    "bash": "_collective_members",
    "zsh": "_collective_members",
    "fish": f"({_NAMES})",
}
# bash would put a space behind the sign.
_PLACES = {
    "bash": "_collective_members",
    "zsh": "_collective_places",
    "fish": f"({_NAMES} | sed 's/..*/&=/')",
}
_HOSTS = {"bash": "_collective_hosts", "zsh": "_hosts", "fish": "(__fish_print_hostnames)"}
_SERVERS = {
    "bash": "_collective_servers",
    "zsh": "_collective_servers",
    "fish": f"({_NAMES}; __fish_print_hostnames)",
}

#: What a word of a command may be, by its name in the parser.
_WORDS = {
    ("invite", "server"): _SERVERS,
    ("join", "server"): _HOSTS,
    ("delete", "server"): _MEMBERS,
    ("promote", "server"): _MEMBERS,
    ("demote", "server"): _MEMBERS,
    ("readdress", "members"): _PLACES,
}


def render() -> dict[str, str]:
    """Return the text of each file, by its path."""
    preamble = {"bash": _BASH, "zsh": _ZSH}
    return {
        path: shtab.complete(_parser(), shell, preamble=preamble.get(shell, "")).rstrip() + "\n"
        for shell, path in PATHS.items()
    }


def _parser() -> argparse.ArgumentParser:
    """Return the parser, with what shtab is to know of its words, and short descriptions."""
    parser = make_parser()
    for name, command in _commands(parser):
        command.description = None  # the summary does
        for action in command._actions:
            words = _WORDS.get((name, action.dest))
            if words is not None:
                vars(action)["complete"] = words
    return parser


def _commands(parser: argparse.ArgumentParser) -> Iterator[tuple[str, argparse.ArgumentParser]]:
    for action in parser._actions:
        if isinstance(action.choices, dict):
            yield from action.choices.items()
