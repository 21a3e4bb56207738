"""Whose etcd does not let somebody in yet."""

from __future__ import annotations

import pytest

from collective.daemon.member.recorded import lacking
from collective.model.records import LoadedTrust, Record, Role
from tests.unit.identities import identity, record_of, view_of

VOTERS = tuple(record_of(f"mgt{n}") for n in (1, 2, 3))
OTHERS = (record_of("mgt4", Role.LEARNER), record_of("mgt5", Role.NONVOTING))
NEW = identity("mgt4").fingerprint
ALL = frozenset({"mgt1", "mgt2", "mgt3", "mgt4", "mgt5"})


@pytest.mark.parametrize(
    ("loaded", "answering", "expected"),
    [
        ({}, ALL, ["mgt1", "mgt2", "mgt3"]),
        ({"mgt1": (NEW,)}, ALL, ["mgt2", "mgt3"]),
        ({"mgt1": (NEW,), "mgt2": ("ab", NEW), "mgt3": (NEW, "cd")}, ALL, []),
        ({"mgt1": (), "mgt2": (NEW[:-1],), "mgt3": (NEW,)}, ALL, ["mgt1", "mgt2"]),
        ({"mgt1": (NEW,)}, {"mgt1", "mgt3"}, ["mgt3"]),
        ({"mgt1": (NEW,)}, {"mgt1"}, []),
        ({}, frozenset(), []),
        ({"mgt1": (NEW,), "mgt4": (NEW,)}, ALL - {"mgt2"}, ["mgt3"]),
    ],
)
def test_voter_that_answers_and_has_not_taken_it_up_is_waited_for(
    loaded: dict[str, tuple[str, ...]], answering: frozenset[str], expected: list[str]
) -> None:
    """One that is off takes it up when it starts; one without a vote has no etcd to let it in."""
    records: list[Record] = [LoadedTrust(name, found) for name, found in loaded.items()]
    assert lacking(view_of(*VOTERS, *OTHERS, *records), answering, (NEW,)) == expected


def test_each_of_several_certificates_is_waited_for() -> None:
    """Joiners that wait together are taken up by one restart, and none of them too early."""
    other = identity("mgt5").fingerprint
    view = view_of(*VOTERS, LoadedTrust("mgt1", (NEW,)), LoadedTrust("mgt2", (NEW, other)))
    assert lacking(view, ALL, (NEW, other)) == ["mgt1", "mgt3"]
    assert lacking(view, ALL, ()) == []


def test_voter_need_not_know_its_own() -> None:
    """Its etcd never dials itself with it, and a change of it is for the others to take up."""
    own = record_of("mgt1", numbers=(1, 2))
    view = view_of(own, *VOTERS[1:])
    assert lacking(view, ALL, own.fingerprints) == ["mgt2", "mgt3"]
    assert lacking(view, ALL, (*own.fingerprints, NEW)) == ["mgt1", "mgt2", "mgt3"]
