"""The state folder on a real file system."""

from __future__ import annotations

import stat
from dataclasses import replace
from pathlib import Path

import pytest

from collective.daemon.lifecycle.state_file import StateFile, known_name
from collective.errors import CollectiveError, ProtocolError
from collective.model.plan import Mode, Plan

PLAN = Plan(Mode.ADOPTING, "mgt1", "10.0.0.1", 13002, 13003, "ab", "mgt1=https://a:1", True)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Where the state is."""
    return tmp_path / "state"


def test_fresh_server_has_no_plan(folder: Path) -> None:
    """Nothing is made up."""
    state = StateFile(folder)
    assert state.load() is None
    assert mode_of(folder) == 0o700


def test_plan_that_was_saved_is_loaded_by_the_next_daemon(folder: Path) -> None:
    """The newest one, whole, readable by its owner alone, and nothing else is left."""
    StateFile(folder).save(PLAN)
    later = replace(PLAN, mode=Mode.JOINING, aside=("/a",))
    StateFile(folder).save(later)
    assert StateFile(folder).load() == later
    assert [(p.name, mode_of(p)) for p in folder.iterdir()] == [("server.json", 0o600)]


def test_name_is_known_before_anything_is_made(folder: Path) -> None:
    """What cannot be read is told by whoever loads it."""
    assert known_name(folder) is None
    assert not folder.exists()
    StateFile(folder).save(PLAN)
    assert known_name(folder) == "mgt1"
    (folder / "server.json").write_text("{")
    assert known_name(folder) is None


@pytest.mark.parametrize("content", [b"", b"{", b"\xff\xfe", b'{"format": 99}'])
def test_broken_plan_is_not_taken_for_a_fresh_server(folder: Path, content: bytes) -> None:
    """A fresh server would make a new collective over the old data."""
    state = StateFile(folder)
    (folder / "server.json").write_bytes(content)
    with pytest.raises(ProtocolError):
        state.load()
    assert (folder / "server.json").read_bytes() == content


def test_plan_that_is_a_folder_is_an_error_of_ours(folder: Path) -> None:
    """Whatever stands there, it is not "no plan"."""
    state = StateFile(folder)
    (folder / "server.json").mkdir()
    with pytest.raises(CollectiveError, match="cannot read"):
        state.load()
