"""Who may be made a learner, where somebody of the same name is known."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import pytest

from collective.daemon.membership.candidate import Candidate
from collective.daemon.membership.learner import check_namesake
from collective.errors import RefusedError
from collective.etcd.api import EtcdMember
from collective.model.records import MemberRecord, Role, to_json
from collective.model.view import Item, View, member_key
from tests.unit.identities import identity

URL, OTHER = "https://10.0.0.2:13003", "https://10.0.0.9:13003"
CANDIDATE = Candidate(
    "mgt2", Role.VOTER, "voter", identity("mgt2").certificate, ("10.0.0.2",), 13002, 13003
)


@pytest.mark.parametrize(
    ("member_id", "members", "expected"),
    [
        ("", (), nullcontext()),
        (f"{7:016x}", (), nullcontext()),
        (f"{7:016x}", (EtcdMember(7, "", (URL,), True),), nullcontext()),
        (f"{7:016x}", (EtcdMember(7, "", (OTHER,), False),), pytest.raises(RefusedError)),
        (f"{7:016x}", (EtcdMember(7, "", (OTHER,), True),), pytest.raises(RefusedError)),
        (f"{7:016x}", (EtcdMember(8, "", (OTHER,), False),), nullcontext()),
    ],
    ids=["not added", "gone", "ours", "voter not written down", "learner", "somebody else"],
)
def test_name_of_a_member_that_etcd_has_elsewhere_is_taken(
    member_id: str, members: tuple[EtcdMember, ...], expected: AbstractContextManager[object]
) -> None:
    """Its record would be lost, and etcd would keep a voter that nobody knows."""
    old = MemberRecord("mgt2", member_id, Role.LEARNER, "10.0.0.9", 13002, 13003, ("a",), 0.0)
    view = View(1, {member_key("mgt2"): Item(to_json(old).encode(), 1)})
    with expected:
        check_namesake(view, members, CANDIDATE)
