"""What is stored, asked and answered: entries, events, conditions, operations, transactions.

It does not talk to etcd; ``wire`` has the form in which etcd is asked.

Invariants:
  * A value that exists is good: keys and sizes are checked when it is made.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from functools import cached_property
from typing import NamedTuple, Union

from collective.errors import InputError
from collective.model.keyspace import STORE, check_key, check_prefix, check_value
from collective.store.leases import Lease

#: Of one transaction. Ours is told to take more (docs/adr/0005), which leaves some for what it is
#: nested in: the request, and on a server that does not vote the voter's.
MOST_OPERATIONS = 10_000
# Ids of leases have 63 bits.
_MOST_LEASE = 1 << 63
#: Of one transaction, keys and values together; that of a server without a vote goes over a door
#: whose requests are smaller (``protocol.limits``).
MOST_BYTES = 4 << 20


class Entry(NamedTuple):
    """One key as it is stored.

    Attributes:
        key: its name.
        value: what is stored.
        revision: of the store, at which it was written last.
        created: the revision at which it came into being; another one after a deletion.
        lease: the lease that it ends with, 0 for none.
    """

    key: str
    value: bytes
    revision: int
    created: int
    lease: int


class Event(NamedTuple):
    """One change of one key.

    Attributes:
        key: its name.
        entry: what is stored now, None for a deletion.
        previous: what was stored before, None where there was nothing.
        revision: of the store, at which it changed. What was found on a gap, and not heard of
            when it happened, has that of the entry; for a deletion, that of the next reading.
    """

    key: str
    entry: Entry | None
    previous: Entry | None
    revision: int

    @property
    def value(self) -> bytes | None:
        """The value that is stored now, None for a deletion."""
        return None if self.entry is None else self.entry.value

    @property
    def is_deletion(self) -> bool:
        """Whether the key has gone."""
        return self.entry is None


class Aspect(Enum):
    """What of a key a condition is about; the values are etcd's names."""

    REVISION = "MOD"
    CREATED = "CREATE"
    VALUE = "VALUE"


@dataclass(frozen=True)
class Condition:
    """What must hold of a key; ``unchanged``, ``absent``, ``present`` and ``holds`` make one.

    Attributes:
        key: it is about.
        aspect: what of it.
        wanted: the revision, 0 for an absent key, or the value.
        differs: whether it must *not* be so.
        space: where the key lies; None for where the transaction's keys lie.
    """

    key: str
    aspect: Aspect
    wanted: int | bytes
    differs: bool = False
    space: str | None = None

    def __post_init__(self) -> None:
        check_key(self.key)
        expected: type = bytes if self.aspect is Aspect.VALUE else int
        if type(self.wanted) is not expected:
            raise InputError(
                f"a condition on {self.key} is for {self.wanted!r:.60}, expected a value of type "
                f"{expected.__name__}"
            )


def unchanged(key: str, revision: int) -> Condition:
    """Require that a key was last written at a revision; 0 requires that there is none."""
    return Condition(key, Aspect.REVISION, revision)


def absent(key: str) -> Condition:
    """Require that there is no such key."""
    return Condition(key, Aspect.CREATED, 0)


def present(key: str) -> Condition:
    """Require that there is such a key."""
    return Condition(key, Aspect.CREATED, 0, differs=True)


def holds(key: str, value: bytes) -> Condition:
    """Require that a key is there and has a value."""
    check_value(key, value)
    return Condition(key, Aspect.VALUE, value)


@dataclass(frozen=True)
class Put:
    """Write a key.

    Attributes:
        key, value: what to write.
        lease: the id of the lease that it ends with, 0 for none, also where it had one; a
            ``Lease`` is taken for its id.
    """

    key: str
    value: bytes
    lease: int = 0

    def __post_init__(self) -> None:
        check_key(self.key)
        check_value(self.key, self.value)
        if type(self.lease) is not int or not 0 <= self.lease < _MOST_LEASE:
            object.__setattr__(self, "lease", lease_id(self.key, self.lease))


@dataclass(frozen=True)
class Delete:
    """Delete a key; there need not be one."""

    key: str

    def __post_init__(self) -> None:
        check_key(self.key)


@dataclass(frozen=True)
class DeletePrefix:
    """Delete all keys that begin so; the empty prefix is the whole store."""

    prefix: str

    def __post_init__(self) -> None:
        check_prefix(self.prefix)


@dataclass(frozen=True)
class Read:
    """Read a key, at the revision of the transaction."""

    key: str

    def __post_init__(self) -> None:
        check_key(self.key)


Operation = Union[Put, Delete, DeletePrefix, Read]
_ONE_KEY = (Put, Delete)
_NONE: frozenset[str] = frozenset()


@dataclass(frozen=True)
class Transaction:
    """What is done as one: ``then`` where all conditions hold, else ``otherwise``.

    Attributes:
        space: where the keys lie, see ``collective.model.keyspace``.
        alone: whether it has to have a revision of its own, shared with no other writer.
    """

    when: tuple[Condition, ...] = ()
    then: tuple[Operation, ...] = ()
    otherwise: tuple[Operation, ...] = ()
    space: str = STORE
    alone: bool = False

    def __post_init__(self) -> None:
        for what, parts in (
            ("conditions", self.when),
            ("operations", self.then),
            ("operations", self.otherwise),
        ):
            if len(parts) > MOST_OPERATIONS:
                raise InputError(
                    f"a transaction has {len(parts)} {what}, at most {MOST_OPERATIONS} go in one",
                    "divide it, or use load for what need not be written as one",
                )
        if self.size > MOST_BYTES:
            raise InputError(
                f"a transaction has {self.size} bytes, at most {MOST_BYTES} go in one",
                "divide it, or use load for what need not be written as one",
            )
        if self.weight > 1:
            _check_each_once(self.then)
            _check_each_once(self.otherwise)

    @cached_property
    def size(self) -> int:
        """Bytes of keys and values."""
        return sum(map(_size, (*self.when, *self.then, *self.otherwise)))

    @cached_property
    def weight(self) -> int:
        """How many operations it counts for, where several are made as one."""
        return max(1, len(self.when), len(self.then), len(self.otherwise))

    @cached_property
    def reads(self) -> int:
        """How many keys it may read."""
        return sum(isinstance(each, Read) for each in (*self.then, *self.otherwise))

    @property
    def is_plain(self) -> bool:
        """Whether it is one operation that is done in any case."""
        return not self.when and len(self.then) == 1

    @cached_property
    def written(self) -> frozenset[str]:
        """The keys that it may write, prefixes aside."""
        return frozenset(
            operation.key
            for operation in (*self.then, *self.otherwise)
            if isinstance(operation, _ONE_KEY)
        )

    @property
    def writes(self) -> bool:
        """Whether it may write anything."""
        return bool(self.written) or self.is_wide

    @property
    def puts(self) -> bool:
        """Whether it may need room: to delete makes some."""
        return any(isinstance(o, Put) for o in (*self.then, *self.otherwise))

    @cached_property
    def compared(self) -> frozenset[str]:
        """The keys that its conditions are about, and that it reads."""
        if self.is_plain and isinstance(self.then[0], _ONE_KEY):
            return _NONE
        read = (o.key for o in (*self.then, *self.otherwise) if isinstance(o, Read))
        return frozenset((*(condition.key for condition in self.when), *read))

    @cached_property
    def is_wide(self) -> bool:
        """Whether it deletes by prefix, so that nobody can say which keys it writes."""
        return any(isinstance(o, DeletePrefix) for o in (*self.then, *self.otherwise))


#: What an operation answers: a Put None, a deletion how many keys it took, a Read the entry.
Result = Union[None, int, Entry]


class Moment(NamedTuple):
    """A revision of the store in one of etcd's clusters; revisions of another are not compared.

    Attributes:
        cluster: its id, 0 for whichever this server is in.
        revision: of the store there.
    """

    cluster: int
    revision: int


#: What is reached always.
NEVER = Moment(0, 0)


@dataclass(frozen=True)
class Outcome:
    """What became of a transaction.

    Attributes:
        succeeded: whether all conditions held.
        revision: of the store, with the transaction in it.
        results: of ``then`` or ``otherwise``, an item for each operation.
        cluster: the id of etcd's cluster that the revision is one of.
    """

    succeeded: bool
    revision: int
    results: Sequence[Result] = ()
    cluster: int = 0

    @property
    def moment(self) -> Moment:
        """The revision, with its cluster."""
        return Moment(self.cluster, self.revision)


def lease_id(key: str, lease: Lease | int) -> int:
    """Return the id of a lease that is given as itself, or by its id.

    Args:
        key: for the message.
        lease: either.

    Raises:
        InputError: it is neither.
        LeaseExpiredError: it has ended.
    """
    if isinstance(lease, Lease):
        lease.check()
        return lease.id
    if type(lease) is int and 0 <= lease < _MOST_LEASE:
        return lease
    raise InputError(
        f"the lease for {key} is {lease!r:.60}, expected a Lease, or the id of one",
        "open one with store.lease(seconds)",
    )


def _size(part: Condition | Operation) -> int:
    if isinstance(part, Condition):
        return len(part.key) + (len(part.wanted) if isinstance(part.wanted, bytes) else 8)
    if isinstance(part, Put):
        return len(part.key) + len(part.value)
    return len(part.prefix if isinstance(part, DeletePrefix) else part.key)


def _check_each_once(operations: Sequence[Operation]) -> None:
    """Refuse what etcd refuses: a key that one transaction writes twice."""
    keys = [o.key for o in operations if isinstance(o, _ONE_KEY)]
    prefixes = [o.prefix for o in operations if isinstance(o, DeletePrefix)]
    twice = {key for key in keys if keys.count(key) > 1} if len(set(keys)) != len(keys) else set()
    twice |= {key for key in keys if any(key.startswith(prefix) for prefix in prefixes)}
    if twice:
        raise InputError(f"a transaction writes {min(twice)} more than once")
