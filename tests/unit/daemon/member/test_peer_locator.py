"""Where members may be: whose word is kept."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collective.daemon.member.peer_locator import PeerLocator
from collective.model.records import MemberRecord, Role
from collective.protocol.messages import Whereabouts
from tests.unit.identities import identity, record_of, view_of

VIEW = view_of(record_of("mgt1"), record_of("mgt2"), record_of("mgt3", Role.NONVOTING))
NODE: Any = SimpleNamespace(
    name="mgt1",
    records_view=SimpleNamespace(view=VIEW),
    credentials=SimpleNamespace(identity=identity("mgt1")),
)


class Answering:
    """The door of a member, which answers with places of its own."""

    def call(self, *_: object) -> dict[str, Any]:
        return {"format": 1, "places": {"mgt2": "10.0.0.66"}}

    def close(self) -> None:
        pass


@pytest.mark.parametrize(
    ("name", "kept"), [("mgt2", "10.0.0.66"), ("mgt3", "10.0.0.2")], ids=["voter", "nonvoting"]
)
@pytest.mark.parametrize("asked", [False, True])
def test_hint_of_a_server_without_a_vote_is_not_kept(
    tmp_path: Path, name: str, kept: str, asked: bool
) -> None:
    """It overwrote what an administrator had told, and had each voter write its disk at will."""
    locator, member = PeerLocator(tmp_path), VIEW.members[name]
    locator.hint({"mgt2": "10.0.0.2"})
    if asked:
        peers = SimpleNamespace(client=lambda _: Answering())
        runtime: Any = SimpleNamespace(**vars(NODE), peers=peers)
        locator._found = {name: (member.address, "10.0.0.9")}
        locator._tell(runtime, member, {})
    else:
        told = Whereabouts({"mgt2": "10.0.0.66", "mgt1": "10.0.0.66"})
        answer = locator.hear(NODE, member, told)
        assert answer.places == {"mgt2": kept}, "it may ask all the same"
    assert PeerLocator(tmp_path)._hints == {"mgt2": kept}


def test_member_that_told_another_address_is_not_looked_for_where_it_was_found(
    tmp_path: Path,
) -> None:
    """It was found at its former one, and moved: a server asked there for ever to be moved."""
    locator, member = PeerLocator(tmp_path), VIEW.members["mgt2"]
    locator._found = {"mgt2": (member.address, "10.0.0.2")}
    assert locator.at(member).address == "10.0.0.2"
    assert locator.found(VIEW.members) == {"mgt2": "10.0.0.2"}
    moved: MemberRecord = replace(member, address="10.0.0.22")
    assert locator.at(moved) == moved
    assert locator.found({"mgt2": moved}) == {}
    assert locator.found({}) == {}
