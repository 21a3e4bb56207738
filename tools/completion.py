"""The completion of bash for ``collective``, made from its parser by shtab.

``tools.manpages`` writes it and checks it, together with the manual pages.
"""

from __future__ import annotations

import shtab

from collective.cli.parser import make_parser

#: bash-completion finds it by this name.
PATH = "deploy/completion/collective"


def render() -> str:
    """Return the text of the file."""
    return shtab.complete(make_parser(), "bash")
