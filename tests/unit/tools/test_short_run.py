"""What a short run leaves out."""

from __future__ import annotations

import pytest

from tests.harness.short_run import is_left_out

VERSIONS = ["3.4.23", "3.5.1"]
SLOW = [f"tests/integration/test_x.py::test_{n}[etcd-{{}}-a]" for n in range(40)]


def test_slow_test_is_done_with_one_version_and_each_version_gets_its_share() -> None:
    """Which one is the same in every run."""
    done = [[v for v in VERSIONS if not is_left_out(test.format(v), VERSIONS)] for test in SLOW]
    assert {len(each) for each in done} == {1}
    assert 10 <= sum(each == ["3.5.1"] for each in done) <= 30


@pytest.mark.parametrize(
    "nodeid",
    [
        "tests/contract/test_x.py::test_1[etcd-3.5.1]",
        "tests/integration/test_x.py::test_1",
        "tests/integration/test_x.py::test_1[a]",
        "tests/unit/test_x.py::test_1[etcd-3.5.1]",
    ],
)
def test_nothing_else_is_left_out(nodeid: str) -> None:
    """Not what has no version, and not what is quick."""
    assert not is_left_out(nodeid, VERSIONS)


def test_one_version_does_all() -> None:
    """Where there is one etcd only."""
    assert not any(is_left_out(test.format("3.5.1"), ["3.5.1"]) for test in SLOW)
