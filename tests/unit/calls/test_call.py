"""The two ends of a call, on a pair of sockets: order, ends, errors, deadlines, silence."""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from time import monotonic

import pytest

from collective.calls import call_connection
from collective.calls.call import Call, ServedCall
from collective.errors import (
    ClosedError,
    CollectiveError,
    DeadlineError,
    HandlerError,
    InDoubtError,
    InputError,
    RefusedError,
)
from collective.protocol.frames import Caller, Kind, frame
from tests.harness import wait_until

SECONDS = 10.0
CALLER = Caller("mgt1", "127.0.0.1", "ab")
Ends = tuple[Call, ServedCall]


@contextmanager
def pair(seconds: float = SECONDS) -> Iterator[Ends]:
    """Return a caller, and who serves it."""
    near, far = socket.socketpair()
    with (
        Call.over(near, "the call", seconds, monotonic()) as call,
        ServedCall(far, "work", monotonic() + seconds, CALLER) as served,
    ):
        yield call, served


@pytest.fixture
def ends() -> Iterator[Ends]:
    """A pair."""
    with pair() as made:
        yield made


@contextmanager
def beating(end: Call) -> Iterator[None]:
    """Have an end show signs of life."""
    stop = threading.Event()

    def beat() -> None:
        while not stop.wait(0.05):
            end.line.beat()

    thread = in_thread(beat)
    try:
        yield
    finally:
        stop.set()
        thread.join()


def flood(end: Call) -> None:
    """Send more than sockets hold."""
    for _ in range(100):
        end.send(b"x" * 100_000)


def in_thread(work: Callable[[], object]) -> threading.Thread:
    thread = threading.Thread(target=work, daemon=True)
    thread.start()
    return thread


def test_messages_pass_both_ways_until_both_have_ended(ends: Ends) -> None:
    """In order, empty ones too; each side ends for itself."""
    call, served = ends
    sent = [b"a", b"", b"b" * 70_000]
    for each in sent:
        call.send(each)
    call.finish()
    call.finish()
    assert list(served) == sent
    assert served.receive() is None
    served.send(b"answer")
    ending = in_thread(served.end)
    assert list(call) == [b"answer"]
    assert call.receive() is None
    call.close()
    ending.join(SECONDS)
    with pytest.raises(ClosedError):
        served.send(b"late")


def test_one_thread_sends_while_another_receives(ends: Ends) -> None:
    """More than the sockets hold, both ways at once."""
    call, served = ends
    count, message = 40, b"x" * 100_000

    def send(end: Call) -> None:
        for _ in range(count):
            end.send(message)
        end.finish()

    senders = [in_thread(partial(send, end)) for end in ends]
    got: list[int] = []
    reader = in_thread(lambda: got.append(sum(len(each) for each in served)))
    assert sum(len(each) for each in call) == count * len(message)
    for thread in (*senders, reader):
        thread.join(SECONDS)
    assert got == [count * len(message)]


def test_sender_takes_nothing_from_who_waits_for_it() -> None:
    """What it overhears, a thread that receives must not wait for."""
    for _ in range(50):
        with pair() as (call, served):
            ended = in_thread(lambda call=call: list(call))  # type: ignore[misc]
            in_thread(served.finish)
            for _ in range(20):
                call.send(b"x")
            ended.join(SECONDS)
            assert not ended.is_alive()


def test_sender_that_takes_no_message_hears_that_the_call_failed(ends: Ends) -> None:
    """Else it would send in vain until the deadline."""
    call, served = ends
    served.send(b"begun")
    in_thread(lambda: served.end(RefusedError("no more, please")))
    with pytest.raises(HandlerError, match="no more, please"):
        flood(call)
    assert call.receive() == b"begun"


def test_sender_finds_out_that_the_other_end_hangs(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One that shows signs of life and does not read is waited for."""
    monkeypatch.setattr(call_connection, "SILENCE_SECONDS", 1.5)
    call, served = ends
    raised: list[CollectiveError] = []

    def send() -> None:
        try:
            flood(call)
        except CollectiveError as error:
            raised.append(error)

    with beating(served):
        sender = in_thread(send)
        sender.join(2.5)
        assert sender.is_alive()
        assert raised == []
    sender.join(SECONDS)
    assert "fell silent" in raised[0].message


def test_error_of_the_handler_is_told_after_what_it_has_sent(ends: Ends) -> None:
    """With what it raised, where that is one of ours."""
    call, served = ends
    served.send(b"before")
    in_thread(lambda: served.end(RefusedError("n1 is locked", "unlock it")))
    assert call.receive() == b"before"
    for _ in range(2):
        with pytest.raises(HandlerError, match="the call failed: n1 is locked") as caught:
            call.receive()
        assert isinstance(caught.value.error, RefusedError)
        assert caught.value.hint == "unlock it"


def test_error_of_the_transport_is_never_taken_for_the_handlers(ends: Ends) -> None:
    """A handler's own trouble with a third server comes in a HandlerError too."""
    call, served = ends
    in_thread(lambda: served.end(InDoubtError("another call broke off")))
    with pytest.raises(HandlerError) as caught:
        call.receive()
    assert isinstance(caught.value.error, InDoubtError)


def test_sender_hears_why_nobody_takes_more(ends: Ends) -> None:
    """The handler's error, or that it has ended, in place of a broken pipe."""
    call, served = ends
    in_thread(lambda: served.end(RefusedError("no more, please")))
    with pytest.raises(HandlerError, match="no more, please"):
        flood(call)
    with pair() as (another, done):
        in_thread(done.end)
        with pytest.raises(ClosedError, match="takes no more"):
            flood(another)


def test_who_is_done_before_its_caller_has_said_all_is_heard(ends: Ends) -> None:
    """To say that no more comes is never an error then."""
    call, served = ends
    served.send(b"answer")
    in_thread(served.end)
    assert list(call) == [b"answer"]
    with pytest.raises(ClosedError, match="takes no more"):
        flood(call)
    call.finish()
    assert call.receive() is None


def test_call_without_its_end_is_in_doubt(ends: Ends) -> None:
    """Whatever came before."""
    call, served = ends
    served.send(b"part")
    served.close()
    assert call.receive() == b"part"
    with pytest.raises(InDoubtError, match="the call broke off"):
        call.receive()


def test_handler_hears_that_its_caller_is_gone(ends: Ends) -> None:
    """When it waits for more, or sends."""
    call, served = ends
    before = served.line.is_gone
    call.close()
    assert (before, served.line.is_gone) == (False, True)
    with pytest.raises(ClosedError, match="mgt1's call to work broke off"):
        served.receive()
    with pytest.raises(ClosedError):
        flood(served)


def test_nothing_outlasts_the_deadline() -> None:
    """Neither waiting for a message, nor sending to somebody who does not read."""
    with pair(0.3) as (call, served):
        begun = monotonic()
        with pytest.raises(InDoubtError, match=r"did not end within 0\.3 s"):
            call.receive()
        with pytest.raises(ClosedError):
            served.receive()
        assert monotonic() - begun < 5.0
    with pair(0.3) as (call, served):
        with pytest.raises(InDoubtError, match="did not end within"):
            flood(call)
        wait_until(lambda: served.seconds_left == 0.0, SECONDS, "the end of its time, too")


def test_call_goes_on_after_a_message_that_did_not_come_in_time(ends: Ends) -> None:
    """To wait for one is no end of the call."""
    call, served = ends
    with pytest.raises(DeadlineError):
        call.receive(0.05)
    served.send(b"now")
    assert call.receive(SECONDS) == b"now"


def test_silent_end_is_given_up_and_one_that_beats_is_not(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long it says nothing else."""
    monkeypatch.setattr(call_connection, "SILENCE_SECONDS", 1.5)
    call, served = ends
    with beating(served), pytest.raises(DeadlineError):
        call.receive(2.5)
    with pytest.raises(InDoubtError, match=r"fell silent for 1\.5 s"):
        call.receive()


def test_beats_do_not_come_between_a_message_and_its_rest(ends: Ends) -> None:
    """Nor do they wait for somebody who does not read."""
    call, served = ends
    sender = in_thread(lambda: call.send(b"x" * (1 << 20)))
    for _ in range(100_000):
        call.line.beat()
        if not sender.is_alive():
            break
        if served.receive(SECONDS) is not None:
            break
    sender.join(SECONDS)
    call.finish()
    for _ in range(100_000):
        call.line.beat()
    assert served.receive(SECONDS) is None


def test_closed_end_is_of_no_use(ends: Ends) -> None:
    """Every use says so, and who waits in it is woken."""
    call, _ = ends
    raised: list[CollectiveError] = []

    def wait() -> None:
        try:
            call.receive()
        except CollectiveError as error:
            raised.append(error)

    thread = in_thread(wait)
    wait_until(lambda: thread.is_alive(), SECONDS, "it waits")
    call.close()
    call.close()
    call.line.beat()
    thread.join(SECONDS)
    assert isinstance(raised[0], ClosedError)
    for use in (lambda: call.send(b""), call.finish, call.receive):
        with pytest.raises(ClosedError):
            use()


def test_bad_messages_are_refused_and_nothing_is_sent(ends: Ends) -> None:
    """Too long, no bytes, after the end."""
    call, served = ends
    for bad in (bytes((1 << 20) + 1), "text", None):
        with pytest.raises(InputError):
            call.send(bad)  # type: ignore[arg-type]
    call.send(b"good")
    call.finish()
    with pytest.raises(ClosedError, match="no more to come"):
        call.send(b"more")
    assert list(served) == [b"good"]


def test_end_that_speaks_nonsense_breaks_nothing_else() -> None:
    """What is understood is given; what comes then is in doubt, and nothing more is said."""
    near, far = socket.socketpair()
    with far, Call.over(near, "the call", SECONDS, monotonic()) as call:
        far.sendall(frame(Kind.MESSAGE, b"a") + frame(Kind.START))
        assert call.receive() == b"a"
        for use in (call.receive, lambda: call.send(b"b")):
            with pytest.raises(InDoubtError):
                use()
    near, far = socket.socketpair()
    with far, Call.over(near, "the call", SECONDS, monotonic()) as call:
        far.sendall(frame(Kind.START))
        with pytest.raises(InDoubtError, match="does not speak as it should: the call holds a ST"):
            call.receive()


def test_end_of_messages_is_no_end_of_the_call(ends: Ends) -> None:
    """The handler may fail, or its process die, after it has said that no more comes."""
    call, served = ends
    served.send(b"a")
    served.finish()
    assert list(call) == [b"a"]
    late = threading.Timer(0.2, served.end, [RefusedError("no, after all")])
    late.start()
    with pytest.raises(HandlerError, match="no, after all"):
        call.wait_done()
    with pair() as (call, served):
        served.finish()
        assert list(call) == []
        late = threading.Timer(0.2, served.close)
        late.start()
        with pytest.raises(InDoubtError, match="broke off"):
            call.wait_done()
    with pair() as (call, served):
        served.send(b"not read")
        served.finish()
        ending = in_thread(served.end)
        call.wait_done()
        ending.join(SECONDS)


def test_handler_that_sends_finds_out_that_its_caller_hangs(
    ends: Ends, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As a caller that sends does; or it would hold its place for as long as the call may last."""
    monkeypatch.setattr(call_connection, "SILENCE_SECONDS", 0.5)
    _, served = ends
    with pytest.raises(ClosedError, match="fell silent"):
        flood(served)
