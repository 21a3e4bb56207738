"""What a bundle needs on another Python than the one that makes it."""

from __future__ import annotations

from email.message import Message

import pytest

from tools.wheels import missing


def package(name: str, *needs: str) -> Message:
    """Return the metadata of a package."""
    made = Message()
    made["Name"] = name
    for need in needs:
        made["Requires-Dist"] = need
    return made


@pytest.mark.parametrize(
    ("python", "wanted"), [("3.10", ["old-help>=4"]), ("3.11", []), ("3.13", ["New_Help"])]
)
def test_requirement_is_read_for_the_python_it_is_for(python: str, wanted: list[str]) -> None:
    """An extra is not wanted, and a name is the same however it is written."""
    packages = [
        package(
            "tool",
            'old-help>=4; python_full_version < "3.11"',
            'New_Help; python_version > "3.12"',
            "There.Already>=1",
            'sphinx; extra == "docs"',
        ),
        package("there-already"),
    ]
    assert missing(packages, python) == wanted
