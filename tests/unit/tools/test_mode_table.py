"""The tables of modes in docs/architecture.md, and what prints them."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import mode_table


def test_page_has_exactly_the_tables_of_the_code() -> None:
    """Or somebody changed one and did not run 'make man'."""
    page = mode_table.PAGE.read_text(encoding="utf-8")
    assert page.count(mode_table.BEGIN) == 1
    assert mode_table.BEGIN + mode_table.render() + mode_table.END in page
    assert mode_table.main(["--check"]) == 0


def test_stale_page_fails_the_check_and_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A run without ``--check`` writes it, and touches nothing around the tables."""
    page = tmp_path / "page.md"
    monkeypatch.setattr(mode_table, "PAGE", page)
    stale = f"before\n{mode_table.BEGIN}old\n{mode_table.END}after\n"
    page.write_text(stale, encoding="utf-8")
    assert mode_table.main(["--check"]) == 1
    assert page.read_text(encoding="utf-8") == stale
    assert mode_table.main([]) == 0
    expected = f"before\n{mode_table.BEGIN}{mode_table.render()}{mode_table.END}after\n"
    assert page.read_text(encoding="utf-8") == expected
    assert mode_table.main(["--check"]) == 0
