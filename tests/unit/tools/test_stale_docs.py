"""The check for stale names: what is planted is found, and what is true passes, of each kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.stale_docs import stale

STORE = '''"""Keys.

A line about {0}.
"""

class Store:
    def put_json(self): ...
'''


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A small tree with one module, one test, one promise and one target of make."""
    for path, text in {
        "collective/__init__.py": "",
        "collective/store/__init__.py": "",
        "collective/store/store.py": STORE.format("``Store.put_json``"),
        "tests/unit/test_store.py": "def test_put_is_seen(): ...",
        "docs/promises.md": "| **P1** | Nothing is lost. |\n",
        "Makefile": "demo: venv\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    return tmp_path


@pytest.mark.parametrize(
    ("true", "planted"),
    [
        ("`store/store.py`", "`store/shop.py`"),
        ("`collective/store/store.py`", "`collective/store.py`"),
        ("`docs/promises.md`", "`docs/oaths.md`"),
        ("`tests/unit`", "`tests/units`"),
        ("`unit/test_store.py::test_put_is_seen`", "`unit/test_store.py::test_put_is_lost`"),
        ("`collective.store.store`", "`collective.store.shop`"),
        ("`store.Store`", "`store.Shop`"),
        ("`store.put_json()`", "`store.put_yaml()`"),
        ("`Store.put_json`", "`Store.put_yaml`"),
        ("`Store`", "`Shop`"),
        ("`put_json`", "`put_yaml`"),
        ("`pathlib.Path`", "`pathlob.Path`"),
        ("`collective show`", "`collective shaw`"),
        ("`collective join --check SERVER`", "`collective join --chuck SERVER`"),
        ("`invite -n`", "`invite -N --nobody`"),
        ("`make demo`", "`make dome`"),
        ("`python -m collective.store`", "`python -m collective.shop`"),
        ("P1", "P2"),
        ("| Package | |\n|---|---|\n| `store` | keys |", "| Storey | |\n|---|---|\n| `shop` | |"),
        ("``\nstore/store.py\n``", "``\nstore/shop.py\n``"),
        ("a key `a`, `lost` and `…/shop.py`\n```\n`store/shop.py`\n```\n", "`not_there`"),
    ],
)
def test_planted_name_is_found_and_a_true_one_passes(
    checkout: Path, true: str, planted: str
) -> None:
    """In a document, with its line."""
    page = checkout / "docs" / "page.md"
    page.write_text(f"A page.\n\n{true}\n")
    assert stale(checkout) == []
    page.write_text(f"A page.\n\n{planted}\n")
    (found,) = stale(checkout)
    assert found.startswith("docs/page.md:")


def test_stale_name_in_a_docstring_is_found_at_its_line(checkout: Path) -> None:
    """It stands in two backticks there."""
    module = checkout / "collective" / "store" / "store.py"
    module.write_text(STORE.format("``store.shop``"))
    assert stale(checkout) == [
        "collective/store/store.py:3: `store.shop`: no such module, or nothing of it"
    ]


@pytest.mark.parametrize("page", ["README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/adr/1.md"])
def test_every_document_is_read(checkout: Path, page: str) -> None:
    """A page that is left out may say anything."""
    (checkout / page).parent.mkdir(exist_ok=True)
    (checkout / page).write_text("`Shop`")
    assert stale(checkout) == [f"{page}:1: `Shop`: no such name"]
