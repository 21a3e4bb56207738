"""The state file's text."""

from __future__ import annotations

import json
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.errors import ProtocolError
from collective.model.plan import FORMAT, Mode, Plan

TEXT = st.text(max_size=20)
PLAN = Plan(
    mode=Mode.MEMBER,
    name="mgt1",
    address="10.0.0.1",
    door_port=13002,
    peer_port=13003,
    cluster_token="ab",
    initial_cluster="mgt1=https://10.0.0.1:13003",
    existing=False,
)


@given(
    st.builds(
        Plan,
        mode=st.sampled_from(Mode),
        name=TEXT,
        address=TEXT,
        door_port=st.integers(1, 65535),
        peer_port=st.integers(1, 65535),
        cluster_token=TEXT,
        initial_cluster=TEXT,
        existing=st.booleans(),
        member_id=TEXT,
        sponsor=TEXT,
        started=st.booleans(),
        reason=TEXT,
        joined_by=TEXT,
        aside=st.lists(TEXT, max_size=3).map(tuple),
    )
)
def test_plan_comes_back_from_its_text(plan: Plan) -> None:
    """Nothing is lost in the state file."""
    assert Plan.from_json(plan.to_json()) == plan


def test_modes_never_change() -> None:
    """They are in state files."""
    assert [mode.value for mode in Mode] == [
        "member",
        "adopting",
        "joining",
        "leaving",
        "removed",
        "nonvoting",
        "lost",
    ]


def text_with(**values: Any) -> str:
    return json.dumps({**json.loads(PLAN.to_json()), **values})


def test_newer_state_file_is_refused_with_what_to_do() -> None:
    """An older release does not run on what a newer one wrote."""
    with pytest.raises(ProtocolError, match=f"format {FORMAT + 1}") as caught:
        Plan.from_json(text_with(format=FORMAT + 1))
    assert "newer release" in str(caught.value.hint)


def test_unknown_field_is_kept_out() -> None:
    """A file of a later release of the same format can be read."""
    assert Plan.from_json(text_with(more=1)) == PLAN


def test_field_with_a_default_may_miss() -> None:
    """A file of an earlier release of the same format can be read."""
    raw = json.loads(PLAN.to_json())
    for name in ("member_id", "sponsor", "started", "reason", "joined_by", "aside"):
        del raw[name]
    assert Plan.from_json(json.dumps(raw)) == PLAN


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "{}",
        '{"format": 1}',
        '{"format": null}',
        text_with(mode="king"),
        text_with(mode=None),
        text_with(aside=3),
        "\x00" * 100,
    ],
)
def test_broken_state_file_is_a_protocol_error(text: str) -> None:
    """A disk that lies is told apart from a fresh server, which has no file."""
    with pytest.raises(ProtocolError, match="broken"):
        Plan.from_json(text)


@pytest.mark.parametrize("name", ["mode", "name", "address", "door_port", "cluster_token"])
def test_state_file_without_a_needed_field_is_broken(name: str) -> None:
    """Half a plan is no plan."""
    raw = json.loads(PLAN.to_json())
    del raw[name]
    with pytest.raises(ProtocolError, match="broken"):
        Plan.from_json(json.dumps(raw))


@pytest.mark.parametrize(
    ("aside", "former"),
    [
        ((), ""),
        (("/s/1/pki",), ""),
        (("/s/1/etcd", "/s/1-2/pki"), "/s/1/etcd"),
        (("/s/1/etcd", "/s/1-2/pki", "/s/2/etcd", "/s/2-2/pki"), "/s/2/etcd"),
    ],
)
def test_former_data_is_the_newest_that_etcd_had(aside: tuple[str, ...], former: str) -> None:
    """What an administrator looks for is the data, not the old certificates."""
    assert replace(PLAN, aside=aside).former_data == former
