"""The configuration of a Confluent server, shared: what is stored comes in, changes go out.

It knows neither asyncio nor eventlet: ``flavours`` runs it in Confluent's thread, and what waits
in others. What waits is yielded as a function to call there.

Invariants:
  * A change is committed only on the configuration that it was computed on: each one writes the
    change key, and requires that it is still as it was read.
  * One that is in doubt is settled before its caller is told anything.
  * Whoever has made a change finds it in the configuration here.
  * Without a quorum a change is refused before anything is computed.
  * No change is computed on a configuration that is not the stored one: where something of it
    could not be taken up, nothing is changed until all of it was read again.
  * No change is made to another configuration than the one that this server has the key of.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Generator, Iterable, Sequence
from functools import partial
from time import monotonic
from typing import Any

import collective
from collective.errors import (
    CollectiveError,
    DegradedCollective,
    InDoubtError,
    InputError,
    ProtocolError,
    RefusedError,
)
from confluent_collective.change import Change, Scratch
from confluent_collective.documents import (
    CHANGE_KEY,
    HERE,
    MASTER_KEY,
    MEMBERS,
    Document,
    area_of,
    check_document,
    from_bytes,
    object_bytes,
    read_object,
)
from confluent_collective.projection import Batch, Projection

log = logging.getLogger(__name__)

#: How long one change may take, with others that come first; and to settle one that is in doubt.
CHANGE_SECONDS = 20.0
SETTLE_SECONDS = 20.0
_WRITE_SECONDS = 10.0
_WAIT_SECONDS = 5.0

_OTHER = "the collective has another configuration of Confluent than this server"

Steps = Generator[Callable[[], Any], Any, Any]


class ConfluentStore:
    """The shared configuration, and Confluent's copy of it."""

    def __init__(self, module: Any, handle: collective.Collective, master_key: bytes) -> None:
        """Prepare; nothing is read yet.

        Args:
            module: ``confluent.config.configmanager``.
            handle: on the collective, with what was read once.
            master_key: what is stored of the key that Confluent has.
        """
        self._module = module
        self._master_key = master_key
        self._is_other = False
        self._handle = handle
        self._projection = Projection(module)
        self._scratch = Scratch(module)
        self._changed = threading.Condition()
        #: Revision of the change key in the configuration here; 0 before there was one.
        self.revision = 0
        #: Whether something could not be taken up, so that all must be read again.
        self.is_broken = False
        #: What the members say of themselves, and which of their Confluents run, by name.
        self.members: dict[str, dict[str, Any]] = {}
        self.here: set[str] = set()

    # What comes in -----------------------------------------------------------------------------

    def take(self, events: Sequence[Any], is_all: bool = False) -> Generator[Any, None, None]:
        """Take up what has changed at once; yields what Confluent wants to be awaited first.

        Args:
            events: of one revision, or the difference between two readings.
            is_all: whether they are all there is; nothing else is taken up while ``is_broken``.
        """
        if self.is_broken and not is_all:
            return
        try:
            batch = self._batch(events, is_all)
            # What is computed meanwhile is on the revision before this one, all of it.
            yield from self._projection.watchers_of_deletion(batch)
            if batch.there or batch.gone:
                self._projection.apply(batch)
            if is_all:
                self.members, self.here = {}, set()
            for event in events:
                self._take_record(event)
        except BaseException:
            # Also where somebody leaves this in the middle: nobody takes this batch up again.
            self.is_broken = True
            raise
        self.is_broken = False
        self._take_revision(events, is_all)

    def _take_revision(self, events: Sequence[Any], is_all: bool) -> None:
        found = {event.key: event for event in events if event.key in (CHANGE_KEY, MASTER_KEY)}
        if MASTER_KEY in found or is_all:
            record = found[MASTER_KEY].value if MASTER_KEY in found else None
            if record != self._master_key and not self._is_other:
                log.error("nothing is changed here any more: %s", _OTHER)
            self._is_other = record != self._master_key
        if CHANGE_KEY in found:
            event = found[CHANGE_KEY]
            with self._changed:
                self.revision = 0 if event.value is None else event.revision
                self._changed.notify_all()

    def _batch(self, events: Sequence[Any], is_all: bool) -> Batch:
        there = [None if e.value is None else _read(e, e.value) for e in events]
        documents = [document for document in there if document is not None]
        if is_all:
            return self._projection.differing(documents)
        batch = Batch(documents, [], _renamed(events))
        for event, now in zip(events, there):
            if event.previous is None or event.previous.value == event.value:
                continue
            former = _read(event, event.previous.value)
            if former is not None and (now is None or now.name != former.name):
                batch.gone.append(former)
        return batch

    def _take_record(self, event: Any) -> None:
        for prefix in (MEMBERS, HERE):
            if not event.key.startswith(prefix):
                continue
            name = event.key[len(prefix) :]
            if prefix == HERE:
                (self.here.discard if event.value is None else self.here.add)(name)
            elif event.value is None:
                self.members.pop(name, None)
            else:
                self._take_member(event.key, name, event.value)

    def _take_member(self, key: str, name: str, value: bytes) -> None:
        self.members.pop(name, None)
        try:
            about = read_object(key, value).get("confluent")
        except ProtocolError as error:
            log.error("%s", error)
            return
        if isinstance(about, dict) and about.get("name") == name and _is_member(about):
            self.members[name] = about
        else:
            log.error("%s holds nothing of a Confluent", key)

    # What goes out -----------------------------------------------------------------------------

    def refuse(self) -> None:
        """Refuse a change where none can be made now.

        Raises:
            DegradedCollective: there is no quorum, or the configuration is not all here.
            RefusedError: it is another one.
        """
        if not self._handle.last_quorum.holds:
            raise DegradedCollective("nothing was changed: there is no quorum")
        if self._is_other:
            raise RefusedError(f"nothing was changed: {_OTHER}", "restart Confluent")
        if self.is_broken:
            raise DegradedCollective("nothing was changed: the configuration is read again")

    def change(self, function: str, arguments: Sequence[Any]) -> Steps:
        """Make a change; yields functions that wait, and are called in another thread.

        Args:
            function: what a leader would run, by its name.
            arguments: of it.

        Returns:
            What the function returns.

        Raises:
            ValueError: it is not valid, or too large for one change.
            DegradedCollective: there is no quorum, and nothing was written.
            RefusedError: this server has another configuration, and nothing was written.
            InDoubtError: nobody can say whether it was made.
            Exception: whatever the function raises.
        """
        deadline = monotonic() + CHANGE_SECONDS
        while True:
            self.refuse()
            base = self.revision
            change = self._scratch.run(function, arguments, self._stored)
            if change.is_empty:
                return change.returned
            made = yield partial(self._commit, base, change, function)
            if made:
                yield partial(self._wait, made)
                return change.returned
            if monotonic() > deadline:
                raise DegradedCollective("nothing was changed: others came first all the time")
            yield partial(self._wait, base + 1)

    def _commit(self, base: int, change: Change, function: str) -> int:
        """Write a change; return its revision, 0 where another one came first."""
        store = self._handle.store
        record = object_bytes(
            by=self._handle.name, function=function, renamed=dict(change.renamed)
        )
        operations: list[Any] = [collective.Put(CHANGE_KEY, record)]
        operations += [collective.Put(key, value) for key, value in change.puts.items()]
        operations += [collective.Delete(key) for key in change.deletes]
        try:
            outcome = store.txn(
                [
                    collective.unchanged(CHANGE_KEY, base),
                    collective.holds(MASTER_KEY, self._master_key),
                ],
                operations,
                seconds=_WRITE_SECONDS,
            )
        except InputError as error:
            raise ValueError(f"this change is too large to be made at once: {error}") from error
        except InDoubtError as error:
            settled = store.settle(error, seconds=SETTLE_SECONDS)
            if settled is None:
                raise DegradedCollective("nothing was changed: there was no quorum") from error
            outcome = settled
        return outcome.revision if outcome.succeeded else 0

    def _stored(self, key: str) -> bytes | None:
        return self._handle.store.get(key)

    def _wait(self, revision: int) -> bool:
        """Wait until the configuration here is that of a revision, or a later one."""
        with self._changed:
            return self._changed.wait_for(lambda: self.revision >= revision, _WAIT_SECONDS)


def _read(event: Any, value: bytes) -> Document | None:
    """Return the document of an event, None for a key of another kind; a bad one is logged."""
    area = area_of(event.key)
    if area is None:
        return None
    try:
        document = from_bytes(area, event.key, value)
        check_document(event.key, document)
    except ProtocolError as error:
        log.error("%s", error)
        return None
    return document


_OF_A_MEMBER = ("name", "address", "fingerprint")


def _is_member(about: dict[str, Any]) -> bool:
    texts = all(isinstance(value, str) for value in about.values())
    return texts and all(name in about for name in _OF_A_MEMBER)


def _renamed(events: Iterable[Any]) -> dict[str, str]:
    for event in events:
        if event.key == CHANGE_KEY and event.value is not None:
            try:
                found = read_object(event.key, event.value).get("renamed")
            except CollectiveError as error:
                log.error("%s", error)
                return {}
            pairs = found.items() if isinstance(found, dict) else ()
            return {old: new for old, new in pairs if isinstance(new, str)}
    return {}
