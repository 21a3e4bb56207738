"""What is stored of Confluent's configuration: its form, its keys, and what is left out."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.errors import InputError, ProtocolError
from confluent_collective.documents import (
    MOST_NAME,
    ROOT,
    area_of,
    from_bytes,
    key_of,
    object_bytes,
    read_object,
    to_bytes,
)
from confluent_collective.source_form import source_of

PLAIN = st.none() | st.booleans() | st.integers() | st.text() | st.binary()
ENTRIES = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner)
        | st.lists(inner).map(tuple)
        | st.dictionaries(st.text(), inner)
        | st.sets(st.text())
    ),
    max_leaves=20,
)


@given(ENTRIES)
def test_entry_is_read_as_it_was_written(entry: Any) -> None:
    """Bytes, tuples, sets and odd keys too, which JSON does not have."""
    value = to_bytes("n1", entry)
    assert from_bytes("nodes", "k", value) == ("nodes", "n1", entry)
    assert to_bytes("n1", from_bytes("nodes", "k", value).entry) == value


def test_same_entry_has_the_same_bytes() -> None:
    """In whatever order it was made: a document that is the same is not written again."""
    one = {"a": {"value": "1"}, "nodes": {"n2", "n1"}}
    other = {"nodes": {"n1", "n2"}, "a": {"value": "1"}}
    assert to_bytes("g", one) == to_bytes("g", other)


def test_names_compare_without_case_and_keep_theirs() -> None:
    """One key for both spellings, and the spelling in the document."""
    assert key_of("nodes", "N1") == key_of("nodes", "n1") == f"{ROOT}nodes/n1"
    assert from_bytes("nodes", "k", to_bytes("N1", {})).name == "N1"


@pytest.mark.parametrize("name", ["a b", "ä/b", "100%", "x" * 100])
def test_any_name_has_a_key(name: str) -> None:
    """Keys of the store are printable ASCII without spaces."""
    key = key_of("users", name)
    assert key.isascii()
    assert " " not in key
    assert area_of(key) == "users"


@pytest.mark.parametrize("name", ["", "x" * (MOST_NAME + 1)])
def test_name_that_is_too_long_or_none_is_refused(name: str) -> None:
    """With its length."""
    with pytest.raises(InputError, match=f"has {len(name)} characters"):
        key_of("nodes", name)


@pytest.mark.parametrize("key", [f"{ROOT}change", f"{ROOT}members/mgt1", "nodes/n1", ROOT])
def test_key_of_another_kind_is_in_no_area(key: str) -> None:
    """They are no documents."""
    assert area_of(key) is None


@pytest.mark.parametrize("value", [b"", b"[]", b"{}", b'{"format":1}', b'{"format":1,"name":1}'])
def test_value_that_is_no_document_is_refused(value: bytes) -> None:
    """With the name of its key."""
    with pytest.raises(ProtocolError, match="confluent/v1/nodes/n1"):
        from_bytes("nodes", f"{ROOT}nodes/n1", value)


def test_newer_format_is_refused_with_what_to_do() -> None:
    """It is never misread."""
    with pytest.raises(ProtocolError, match="has format 2, this release knows 1") as caught:
        read_object("k", object_bytes(x=1).replace(b'"format":1', b'"format":2'))
    assert "update" in str(caught.value.hint)


def test_source_form_has_nothing_that_is_inherited_or_computed() -> None:
    """What follows from groups and expressions every server computes by itself."""
    node = {
        "groups": ["rack", "everything"],
        "id.index": {"value": 3},
        "location.room": {"value": "old", "inheritedfrom": "rack"},
        "console.method": {"expression": "x{nodename}", "value": "xn1", "broken": "no"},
        "_expressionkeys": {"nodename"},
        "secret.key": {"cryptvalue": (b"a", b"b")},
    }
    assert source_of("nodes", node) == {
        "groups": ["rack", "everything"],
        "id.index": {"value": 3},
        "console.method": {"expression": "x{nodename}"},
        "secret.key": {"cryptvalue": (b"a", b"b")},
    }
    group = {"nodes": {"n1"}, "location.room": {"value": "old"}, "noderange": {"value": "n1"}}
    assert source_of("nodegroups", group) == {
        "location.room": {"value": "old"},
        "noderange": {"value": "n1"},
    }
    user = {"id": "1", "cryptpass": (b"a", b"b")}
    assert source_of("users", user) is user
