"""What is good to be stored, and what is refused before anything is sent."""

from __future__ import annotations

import pytest

from collective.errors import InputError
from collective.model.keyspace import MOST_KEY, MOST_VALUE
from collective.store.values import (
    MOST_OPERATIONS,
    Condition,
    Delete,
    DeletePrefix,
    Operation,
    Put,
    Read,
    Transaction,
    absent,
    holds,
    unchanged,
)


@pytest.mark.parametrize(
    ("key", "why"),
    [
        ("", "empty"),
        ("a b", "space"),
        ("a\n", "printable"),
        ("schlüssel", "ASCII"),
        ("x" * (MOST_KEY + 1), f"at most {MOST_KEY}"),
        (b"bytes", "expected str"),
    ],
)
def test_bad_key_is_refused_and_named(key: str, why: str) -> None:
    """In every place where one is given."""
    for make in (
        lambda: Put(key, b""),
        lambda: Delete(key),
        lambda: Read(key),
        lambda: absent(key),
    ):
        with pytest.raises(InputError, match=why):
            make()


def test_longest_key_and_value_are_good() -> None:
    """The limits belong to what is allowed."""
    assert Put("x" * MOST_KEY, b"v" * MOST_VALUE).value


def test_value_too_large_is_told_with_its_size_and_what_to_do() -> None:
    """One megabyte is the limit."""
    with pytest.raises(InputError, match=f"has {MOST_VALUE + 1} bytes.*{MOST_VALUE}") as caught:
        Put("a", b"v" * (MOST_VALUE + 1))
    assert "divide it" in str(caught.value.hint)


def test_text_is_no_value() -> None:
    """The hint names what to use."""
    with pytest.raises(InputError, match="type str, expected bytes") as caught:
        Put("a", "text")  # type: ignore[arg-type]
    assert "put_json" in str(caught.value.hint)


def test_transaction_with_too_many_operations_is_refused() -> None:
    """As etcd would, with the number."""
    puts = tuple(Put(f"k{n}", b"") for n in range(MOST_OPERATIONS + 1))
    with pytest.raises(InputError, match=f"has {MOST_OPERATIONS + 1} operations"):
        Transaction(then=puts)


def test_transaction_with_too_many_bytes_is_refused() -> None:
    """Each value is good, and all are too much."""
    puts = tuple(Put(f"k{n}", b"v" * MOST_VALUE) for n in range(4))
    with pytest.raises(InputError, match="bytes, at most"):
        Transaction(then=puts)


@pytest.mark.parametrize(
    "operations",
    [
        (Put("a", b""), Put("a", b"")),
        (Put("a", b""), Delete("a")),
        (Put("a/b", b""), DeletePrefix("a/")),
    ],
)
def test_key_written_twice_is_refused(operations: tuple[Operation, ...]) -> None:
    """Etcd refuses it too, without the name of the key."""
    with pytest.raises(InputError, match=r"writes a.* more than once"):
        Transaction(then=operations)


def test_footprint_names_what_is_written_and_what_is_looked_at() -> None:
    """Both branches count, since nobody knows which is taken."""
    when: tuple[Condition, ...] = (unchanged("c", 3), holds("d", b"x"))
    transaction = Transaction(when, (Put("a", b""), Read("e")), (Delete("b"),))
    assert transaction.written == {"a", "b"}
    assert transaction.compared == {"c", "d", "e"}
    assert not transaction.is_wide
    assert Transaction(then=(DeletePrefix("a"),)).is_wide
