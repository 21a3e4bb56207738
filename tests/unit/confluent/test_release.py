"""Which Confluent is taken: one that was tried, or one that somebody allows."""

from __future__ import annotations

from pathlib import Path

import pytest

from collective.errors import RefusedError
from confluent_collective import release
from confluent_collective.release import RELIED_ON, Release, hashes_of, judge, known_releases

RELEASES = known_releases()


def test_every_tried_release_has_all_that_is_relied_on() -> None:
    """The table is whole: names and hashes, and nothing of Confluent's text."""
    wanted = {f"{file}:{name}" for file, names in RELIED_ON.items() for name in names}
    assert [r.name for r in RELEASES] == ["head of 2026-08-21", "3.15.6"]
    for each in RELEASES:
        assert each.functions.keys() == wanted
        assert all(len(digest) == 16 for digest in each.functions.values())


def test_all_mutators_of_the_leader_are_relied_on() -> None:
    """The fourteen names that a follower sends."""
    names = [n for n in RELIED_ON[release.CONFIGMANAGER] if n.startswith("_rpc_master_")]
    assert len(names) == 14


@pytest.mark.parametrize("known", RELEASES, ids=lambda r: r.name)
def test_tried_release_is_known_by_its_functions(known: Release) -> None:
    """Not by a number that a site may keep while it patches."""
    assert judge(known.functions, RELEASES) == known.name


def test_untried_release_is_refused_with_what_differs() -> None:
    """One sentence, and what to do."""
    found = {**RELEASES[1].functions, "config/configmanager.py:check_quorum": "0" * 16}
    with pytest.raises(
        RefusedError, match=r"was not tried: check_quorum differ from 3\.15\.6"
    ) as e:
        judge(found, RELEASES)
    assert "UNTRIED" in str(e.value.hint)
    assert judge(found, RELEASES, allow_untried=True) is None


def test_release_that_lacks_a_function_is_refused_though_allowed() -> None:
    """It could not work."""
    found = dict(RELEASES[0].functions)
    del found["config/configmanager.py:exec_on_leader"]
    with pytest.raises(RefusedError, match="exec_on_leader"):
        judge(found, RELEASES, allow_untried=True)


def test_hash_is_that_of_the_function_alone(tmp_path: Path) -> None:
    """What stands beside it may change; blanks at the ends of lines do not count."""
    for file in RELIED_ON:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("")
    module = tmp_path / release.CONFIGMANAGER
    module.write_text("import os\n\nasync def exec_on_leader(function):\n    return 1\n")
    first = hashes_of(tmp_path)
    assert list(first) == ["config/configmanager.py:exec_on_leader"]
    module.write_text("# more\nasync def exec_on_leader(function):  \n    return 1\n\nx = 1\n")
    assert hashes_of(tmp_path) == first
    module.write_text("async def exec_on_leader(function):\n    return 2\n")
    assert hashes_of(tmp_path) != first


def test_missing_confluent_is_refused(tmp_path: Path) -> None:
    """With the file that was looked for."""
    with pytest.raises(RefusedError, match=r"configmanager\.py"):
        hashes_of(tmp_path)
