"""Read the commonest command lines without argparse, which takes as long to import as Python.

It reads nothing that argparse would read otherwise: what is not plain is left to it.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


class Options:
    """What argparse's Namespace would hold."""

    def __init__(self, **values: object) -> None:
        self.__dict__.update(values)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(name)


def parse(arguments: list[str]) -> Options | None:
    """Return the options of ``show`` and ``invite SERVER``, None for all else."""
    if arguments and arguments[0] == "show" and len(arguments) < 3:
        asked = arguments[1:]
        if not asked or asked[0] in ("--json", "--names"):
            return Options(command="show", json="--json" in asked, names="--names" in asked)
    if len(arguments) == 2 and arguments[0] == "invite" and _is_plain(arguments[1]):
        return Options(
            command="invite",
            server=arguments[1],
            nonvoting=False,
            ttl=None,
            action="make",
            dry_run=False,
            json=False,
        )
    return None


def _is_plain(word: str) -> bool:
    return word.replace("-", "").replace(".", "").isalnum() and word[0] != "-" and word.isascii()
