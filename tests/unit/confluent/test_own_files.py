"""Confluent's own files: what is not the collective's is copied before it is replaced."""

from __future__ import annotations

import os
import shutil
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from confluent_collective import own_files
from confluent_collective.own_files import MARK, OwnFiles

IDENTITY = "0" * 32
FILES = {"globals": b"key", "nodes": b"n1", "users": b"ann"}


@pytest.fixture
def cfg(tmp_path: Path) -> Path:
    """A folder with a configuration."""
    folder = tmp_path / "cfg"
    folder.mkdir()
    (folder / "myname").write_text("mgt1")
    for name, content in FILES.items():
        (folder / name).write_bytes(content)
    return folder


def copies(cfg: Path) -> list[Path]:
    """Return the folders of copies that are whole."""
    found = cfg.parent.glob("cfg.aside-*")
    return sorted(each for each in found if each.suffix != ".part")


def content(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


class PowerCutError(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("step", range(12))
def test_power_cut_at_any_line_leaves_a_whole_copy_at_the_next_start(
    cfg: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """In the same second, too; and a folder that looks whole is whole."""
    monkeypatch.setattr(time, "strftime", lambda _: "20261129T100000")
    left = [step]

    def cut(original: Callable[..., Any]) -> Callable[..., Any]:
        def maybe(*arguments: Any, **named: Any) -> Any:
            left[0] -= 1
            if left[0] < 0:
                raise PowerCutError
            return original(*arguments, **named)

        return maybe

    with monkeypatch.context() as patched:
        for owner, names in (
            (Path, ("rename", "replace", "write_text")),
            (tempfile, ("mkdtemp",)),
            (shutil, ("copy2",)),
            (own_files, ("_fsync",)),
        ):
            for name in names:
                patched.setattr(owner, name, cut(getattr(owner, name)))
        with suppress(PowerCutError):
            OwnFiles(cfg).keep_aside(IDENTITY)
    OwnFiles(cfg).keep_aside(IDENTITY)
    assert copies(cfg)
    assert all(content(each) == FILES for each in copies(cfg))
    count = len(list(cfg.parent.iterdir()))
    OwnFiles(cfg).keep_aside(IDENTITY)
    assert len(list(cfg.parent.iterdir())) == count


def test_configuration_of_another_key_is_moved_aside_too(cfg: Path) -> None:
    """Whoever rewrites which key it is would have the right one overwritten, and lost."""
    for mark, count in (("a", 1), ("a", 1), ("b", 2), ("b", 2)):
        OwnFiles(cfg).keep_aside(f"{IDENTITY} {mark}")
        assert len(copies(cfg)) == count


def test_what_this_adapter_wrote_is_not_copied_at_the_next_start(cfg: Path) -> None:
    """Each write is noted."""
    mine = OwnFiles(cfg)
    mine.keep_aside(IDENTITY)
    for text in ("one", "another"):
        (cfg / "nodes").write_text(text)
        mine.note()
    assert OwnFiles(cfg).keep_aside(IDENTITY) is None
    assert len(copies(cfg)) == 1


@pytest.mark.parametrize("change", ["written", "new", "deleted", "same size"])
def test_what_was_changed_alone_is_copied_though_the_mark_was_forgotten(
    cfg: Path, change: str
) -> None:
    """A server that went out, worked alone, and goes in again."""
    OwnFiles(cfg).keep_aside(IDENTITY)
    if change == "new":
        (cfg / "usergroups").write_text("ops")
    elif change == "deleted":
        (cfg / "users").unlink()
    else:
        (cfg / "nodes").write_text("n2" if change == "same size" else "n1 n2")
    alone = {n: c for n, c in content(cfg).items() if n not in (MARK, "myname")}
    again = OwnFiles(cfg)
    again.note()
    aside = again.keep_aside(IDENTITY)
    assert aside is not None
    assert content(aside) == alone
    assert OwnFiles(cfg).keep_aside(IDENTITY) is None


def test_what_was_changed_alone_is_not_noted_before_it_is_copied(cfg: Path) -> None:
    """A start without a daemon writes files too; the next one still knows."""
    OwnFiles(cfg).keep_aside(IDENTITY)
    (cfg / "nodes").write_text("n1 n2")
    started = OwnFiles(cfg)
    (cfg / "globals").write_text("where the log is")
    started.note()
    assert OwnFiles(cfg).keep_aside(IDENTITY) is not None


@pytest.mark.parametrize("mark", ["", IDENTITY, f"{IDENTITY}\nnodes:1:1", "\udcff\n"])
def test_mark_that_says_nothing_of_these_files_costs_a_copy(cfg: Path, mark: str) -> None:
    """Of a former release, of another folder, or cut off."""
    (cfg / MARK).write_text(mark, errors="surrogateescape")
    assert OwnFiles(cfg).keep_aside(IDENTITY) is not None


def test_nothing_is_copied_where_nothing_is(tmp_path: Path) -> None:
    """A new server; its mark is written all the same."""
    folder = tmp_path / "cfg"
    assert not folder.exists()
    made = OwnFiles(folder)
    folder.mkdir()
    assert made.keep_aside(IDENTITY) is None
    assert [each.name for each in tmp_path.iterdir()] == ["cfg"]
    assert (folder / MARK).read_text().startswith(IDENTITY)


def test_note_that_cannot_be_written_is_logged(
    cfg: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """It must not end Confluent's thread that writes."""
    made = OwnFiles(cfg)
    made.keep_aside(IDENTITY)
    (cfg / f"{MARK}.part").mkdir()
    made.note()
    assert "cannot note" in caplog.text
    os.rmdir(cfg / f"{MARK}.part")
