"""Which tests are done by one process."""

from __future__ import annotations

import pytest

from tests.harness.shares import share_of

CELL = "tests/faults/test_matrix.py::test_cut_after_step[etcd-3.4.23-join.joiner.key-both]"


def test_cells_of_one_stage_stay_together_whatever_their_file() -> None:
    """A stage takes seconds to be made."""
    other = "tests/faults/test_leader_changes.py::test_leader[etcd-3.4.23-join.joiner.key-killed]"
    assert share_of(CELL) == share_of(other)
    assert share_of(CELL) != share_of(CELL.replace("3.4.23", "3.5.1"))


@pytest.mark.parametrize(
    ("one", "other", "together"),
    [
        ("tests/unit/test_files.py::test_a", "tests/unit/test_files.py::test_b[x]", True),
        ("tests/unit/test_files.py::test_a", "tests/unit/test_render.py::test_a", False),
        ("tests/faults/test_races.py::test_a[1]", "tests/faults/test_races.py::test_a[2]", False),
    ],
)
def test_quick_tests_of_a_file_stay_together(one: str, other: str, together: bool) -> None:
    """The slow ones go to whoever is free."""
    assert (share_of(one) == share_of(other)) is together
