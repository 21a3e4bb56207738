"""A mapping over another one: it behaves as a copy would, and changes nothing below it."""

from __future__ import annotations

import copy
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from confluent_collective.overlay import Overlay

NAMES = st.sampled_from("abcdef")
STEPS = st.lists(st.tuples(st.sampled_from(["set", "delete", "change", "look"]), NAMES))


@given(st.dictionaries(NAMES, st.builds(dict, v=st.just(0))), STEPS)
def test_it_behaves_as_a_copy(base: dict[str, Any], steps: list[tuple[str, str]]) -> None:
    """Whatever is done to it."""
    base = copy.deepcopy(base)
    before, model, overlay = copy.deepcopy(base), copy.deepcopy(base), Overlay(base)
    for number, (step, name) in enumerate(steps):
        for mapping in (model, overlay):
            if step == "set":
                mapping[name] = {"v": number}
            elif name in mapping and step == "delete":
                del mapping[name]
            elif name in mapping and step == "change":
                mapping[name]["v"] = number
        assert set(overlay) == set(model)
        assert len(overlay) == len(model)
        assert overlay.get(name) == model.get(name)
    assert dict(overlay) == model
    assert base == before
