"""A start that meets hostile members, strange records, and the end of its process at any line."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collective.errors import (
    ClosedError,
    CollectiveError,
    EtcdError,
    SlowReaderError,
    UnreachableError,
)
from confluent_collective import master_key, runtime
from confluent_collective.runtime import ConfluentRuntime

NewConfiguration = Callable[[], Any]
SECONDS = 20.0
IDENTITY = "0" * 32
DEEP = b"[" * 100_000 + b"]" * 100_000
ANOTHER = f"*unencrypted:{b64encode(b'x' * 32).decode()}"
BAD_ANSWERS = {
    "nothing": b"",
    "no object": b"[]",
    "number": b"5",
    "no key": b"{}",
    "key is a number": b'{"cryptkey":5}',
    "key is no base64": b'{"cryptkey":"*unencrypted:x"}',
    "deep": DEEP,
    "another key": json.dumps({"cryptkey": ANOTHER}).encode(),
    "integrity key is a list": json.dumps({"cryptkey": ANOTHER, "integritykey": []}).encode(),
}


class Answering:
    """A handle whose members answer with what a test says."""

    name = "mgt1"

    def __init__(self, answers: dict[str, bytes]) -> None:
        self._answers = answers

    @contextmanager
    def call(self, member: str, *_: Any, **__: Any) -> Iterator[Any]:
        yield SimpleNamespace(finish=lambda: None, receive=lambda: self._answers[member])


@pytest.mark.parametrize("bad", BAD_ANSWERS)
def test_hostile_member_keeps_nobody_from_the_master_key(
    new_configuration: NewConfiguration, bad: str
) -> None:
    """It is asked first, then the next one; no wrong key is taken, not for a moment."""
    honest, cfm = new_configuration(), new_configuration()
    wanted, own = master_key.mark_of(honest), cfm._masterkey
    good = json.dumps(honest._dump_keys(None, False)).encode()
    handle: Any = Answering({"mgt2": BAD_ANSWERS[bad], "mgt3": good})
    with pytest.raises(UnreachableError, match="mgt2"):
        master_key.fetch(handle, cfm, wanted, ["mgt2"])
    assert cfm._masterkey == own
    assert cfm._masterintegritykey is None
    master_key.fetch(handle, cfm, wanted, ["mgt2", "mgt3"])
    assert cfm._masterkey == honest._masterkey


def runtime_in(folder: Path, name: str = "mgt1") -> Any:
    folder.mkdir(parents=True, exist_ok=True)
    manager = SimpleNamespace(_cfgdir=str(folder))
    cfm = SimpleNamespace(ConfigManager=manager, get_myname=lambda: name)
    return ConfluentRuntime(SimpleNamespace(cfm=cfm))  # type: ignore[arg-type]


class Stored:
    """A handle whose store holds what a test says."""

    name = "mgt1"

    def __init__(self, key: bytes) -> None:
        self._key = key
        self.store = self

    def get(self, key: str) -> bytes:
        return self._key if key.endswith("master-key") else b'{"format":1}'


@pytest.mark.parametrize(
    "about",
    [
        {},
        {"mark": 5, "identity": IDENTITY},
        {"mark": "0" * 64},
        {"mark": "0" * 64, "identity": 5},
        {"mark": "0" * 64, "identity": " x"},
        {"mark": "0" * 64, "identity": "\u00e4"},
        {"mark": "", "identity": IDENTITY},
    ],
)
def test_strange_record_of_the_master_key_is_an_error_and_nothing_is_moved(
    tmp_path: Path, about: dict[str, Any]
) -> None:
    """Of the kind with which Confluent starts on its own files."""
    made = runtime_in(tmp_path / "cfg")
    (tmp_path / "cfg" / "globals").write_bytes(b"key")
    handle: Any = Stored(json.dumps({"format": 1, **about}).encode())
    with pytest.raises(CollectiveError):
        made._check(handle)
    assert [each.name for each in tmp_path.iterdir()] == ["cfg"]


def test_one_session_is_opened_however_often_the_key_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else each try leaves a lease that is kept alive."""
    opened: list[Any] = []
    tried: list[Any] = []

    class OverError(BaseException):
        """The end of the test."""

    def session(_seconds: float) -> Any:
        opened.append(SimpleNamespace(lease=1, when_lost=lambda _: None, is_held=True))
        return opened[-1]

    def put(*_: Any, **__: Any) -> None:
        tried.append(None)
        raise OverError if len(tried) == 3 else EtcdError("the database is full")

    handle: Any = SimpleNamespace(name="mgt1", session=session, store=SimpleNamespace(put=put))
    monkeypatch.setattr(runtime, "_AGAIN_SECONDS", 0.0)
    with pytest.raises(OverError):
        runtime_in(tmp_path / "cfg")._keep_here(handle, b"")
    assert len(opened) == 1


class Told:
    """A watch that tells what a test says, and then is silent until it is closed."""

    def __init__(self, *told: Any) -> None:
        self._told, self._closed = list(told), threading.Event()

    def next_batch(self) -> Any:
        if not self._told:
            self._closed.wait(SECONDS)
            raise ClosedError("closed")
        found = self._told.pop(0)
        if isinstance(found, Exception):
            raise found
        return found

    def close(self) -> None:
        self._closed.set()


@pytest.mark.parametrize("why", ["it lagged", "it could not be taken up"])
def test_all_is_read_again_when_a_batch_was_missed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, why: str
) -> None:
    """Until all of it could be taken up; what comes meanwhile does not count."""
    monkeypatch.setattr(runtime, "_AGAIN_SECONDS", 0.0)
    lagged = why == "it lagged"
    first = Told(SlowReaderError("slow")) if lagged else Told(["bad"], ["missed"])
    opened = [Told(["bad"]), Told(["all"], ["more"])]
    taken: list[tuple[list[str], bool]] = []
    done = threading.Event()

    class Broken:
        is_broken = False
        here: frozenset[str] = frozenset()

        def take(self, events: list[str], is_all: bool) -> Iterator[None]:
            if self.is_broken and not is_all:
                return
            self.is_broken = True
            taken.append((events, is_all))
            if events == ["bad"]:
                raise KeyError
            self.is_broken = False
            yield from ()
            if events == ["more"]:
                done.set()

    def queue(work: Callable[[], Iterator[None]]) -> None:
        list(work())

    made = runtime_in(tmp_path / "cfg")
    made._seam.flavour = SimpleNamespace(queue=queue)
    made._seam.tell_ready = lambda: None
    made._tell_members = lambda: None
    made._is_another = lambda *_: False
    made._store = Broken()
    store = SimpleNamespace(watch=lambda *_, **__: opened.pop(0))
    made._handle = SimpleNamespace(store=store)
    thread = threading.Thread(target=made._feed, args=(first,))
    thread.start()
    assert done.wait(SECONDS), taken
    made._watch.close()
    thread.join(SECONDS)
    assert not thread.is_alive()
    before = [] if lagged else [(["bad"], False)]
    assert taken == [*before, (["bad"], True), (["all"], True), (["more"], False)]
