"""How events of a watch become a view."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from collective.etcd.calls import encode
from collective.etcd.store import _apply
from collective.model.view import Item, View

KEYS = st.sampled_from(["a", "b", "c"])
STEPS = st.lists(
    st.tuples(KEYS, st.one_of(st.none(), st.binary(max_size=2))), min_size=1, max_size=8
)


def event(key: str, value: bytes | None, revision: int) -> dict[str, Any]:
    """Return an event as the gateway writes it: PUT has no type, empty values are left out."""
    kv = {"key": encode(key), "mod_revision": str(revision)}
    if value is None:
        return {"type": "DELETE", "kv": kv}
    return {"kv": {**kv, "value": encode(value)} if value else kv}


@given(st.dictionaries(KEYS, st.binary(max_size=2)), STEPS)
def test_events_change_a_view_as_they_would_a_dict(
    start: dict[str, bytes], steps: list[tuple[str, bytes | None]]
) -> None:
    """Within one batch the last event of a key counts, whatever came before."""
    model = {key: Item(value, 1) for key, value in start.items()}
    view = View(10, dict(model))
    events = []
    for revision, (key, value) in enumerate(steps, 11):
        events.append(event(key, value, revision))
        model.pop(key, None)
        if value is not None:
            model[key] = Item(value, revision)
    after = _apply(view, events)
    assert (after.revision, dict(after.items)) == (10 + len(steps), model)


def test_view_after_a_batch_is_as_new_as_its_newest_event() -> None:
    """Events of one transaction share a revision; the highest counts, wherever it stands."""
    view = View(10)
    batch = [event("a", b"1", 12), event("b", b"2", 14), event("c", None, 14)]
    for events in (batch, batch[::-1]):
        assert _apply(view, events).revision == 14
