"""What serves calls, on its own socket, without a daemon: the test greets as one would."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import ExitStack, suppress
from pathlib import Path
from time import monotonic

import pytest

from collective.calls.call import Call, ServedCall
from collective.calls.call_manager import CallManager
from collective.calls.service import Service
from collective.errors import (
    ClosedError,
    CollectiveError,
    HandlerError,
    InputError,
    RefusedError,
)
from collective.model.layout import Layout
from collective.protocol.frames import MOST_SECONDS, Caller, Kind, frame, greeting
from tests.harness import temporary_folder, wait_until
from tests.harness.server import CHECKOUT

SECONDS = 10.0
CALLER = Caller("mgt1", "127.0.0.1", "ab")


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder with a short path."""
    with temporary_folder() as made:
        yield made


def call(
    folder: Path,
    service: str = "work",
    seconds: float = SECONDS,
    left: float | None = None,
    caller: Caller = CALLER,
) -> Call:
    """Connect, greet as the daemon does, and begin as a caller does."""
    sock = socket.socket(socket.AF_UNIX)
    sock.connect(str(folder / service))
    sock.sendall(
        greeting(caller, monotonic() + (seconds if left is None else left)) + frame(Kind.START)
    )
    return Call.over(sock, "the call", seconds, monotonic())


def test_call_whose_caller_has_gone_is_never_begun(folder: Path) -> None:
    """It waited for a place, and its message is there to be read."""
    go_on, heard = threading.Event(), list[bytes | None]()

    def work(served: ServedCall) -> None:
        heard.append(served.receive())
        assert go_on.wait(SECONDS)

    with Service(folder, "work", work, most=1), call(folder) as first:
        first.send(b"first")
        wait_until(lambda: heard, SECONDS, "the first call runs")
        with call(folder) as gone:
            gone.send(b"gone")
        with call(folder) as last:
            last.send(b"last")
            go_on.set()
            wait_until(lambda: len(heard) == 2, SECONDS, "the next call runs")
    assert heard == [b"first", b"last"]


@pytest.mark.parametrize("finishes", [False, True])
def test_message_of_who_has_hung_up_is_not_heard(folder: Path, finishes: bool) -> None:
    """A server that was deleted is cut off, with what it had sent; one that was done is heard."""
    begun, go_on, ended = threading.Event(), threading.Event(), list[object]()

    def work(served: ServedCall) -> None:
        begun.set()
        assert go_on.wait(SECONDS)
        try:
            ended.append(list(served))
        except ClosedError as error:
            ended.append(error)

    with Service(folder, "work", work):
        with call(folder) as caller:
            for _ in range(3):
                caller.send(b"x" * 20_000)
            if finishes:
                caller.finish()
            assert begun.wait(SECONDS)
        go_on.set()
        wait_until(lambda: ended, SECONDS, "it ends")
    if finishes:
        assert ended == [[b"x" * 20_000] * 3]
    else:
        assert isinstance(ended[0], ClosedError)


def test_call_that_waited_in_the_kernel_has_no_fresh_deadline(folder: Path) -> None:
    """The daemon said when its time is up."""
    heard: list[bytes | None] = []
    with (
        Service(folder, "work", lambda served: heard.append(served.receive())),
        call(folder, seconds=SECONDS, left=-1.0) as late,
        pytest.raises(RefusedError, match="never began"),
    ):
        late.receive()
    assert heard == []


def test_who_never_stops_talking_does_not_stop_the_clock(folder: Path) -> None:
    """Signs of life are none of the messages that were waited for."""
    ended = threading.Event()

    def talk(served: ServedCall) -> None:
        while not ended.is_set():
            served.line.send_now(memoryview(frame(Kind.BEAT) * 10_000))

    with Service(folder, "work", talk), call(folder, seconds=0.5) as caller:
        begun = monotonic()
        with pytest.raises(Exception, match="did not end within"):
            caller.receive()
        ended.set()
        assert monotonic() - begun < 5.0


def test_shortest_name_in_the_longest_folder_can_be_served(folder: Path) -> None:
    """As long as the daemon's own socket fits there."""
    room = 107 - len(str(folder)) - 1 - len("/.door")
    longest = folder / ("x" * room)
    longest.mkdir()
    with Service(longest, "a", lambda served: b"yes"), call(longest, "a") as caller:
        assert caller.receive() == b"yes"
    with pytest.raises(InputError, match="too long a name"):
        Service(longest, "service", lambda served: None)


def test_second_service_of_a_name_is_refused_and_a_dead_one_replaced(folder: Path) -> None:
    """As is one that closed."""
    (folder / "work").touch()
    with pytest.raises(InputError, match="not a socket"):
        Service(folder, "work", lambda served: None)
    (folder / "work").unlink()
    dead = socket.socket(socket.AF_UNIX)
    dead.bind(str(folder / "work"))
    dead.close()
    with Service(folder, "work", lambda served: b"1"):
        with pytest.raises(InputError, match="another process answers"):
            Service(folder, "work", lambda served: b"2")
        with call(folder) as caller:
            assert caller.receive() == b"1"
    assert not (folder / "work").exists()
    with Service(folder, "work", lambda served: b"2"), call(folder) as caller:
        assert caller.receive() == b"2"


@pytest.mark.parametrize(
    "seconds", [0.0, -1.0, MOST_SECONDS + 1, float("inf"), float("nan"), 1e300]
)
def test_call_of_no_good_length_is_refused(folder: Path, seconds: float) -> None:
    """Before anything is asked."""
    layout = Layout(str(folder), str(folder), str(folder))
    with (
        CallManager(layout) as call_manager,
        pytest.raises(InputError, match="a call cannot last"),
    ):
        call_manager.call("mgt1", "work", seconds)


SCRIPT = """
import os, resource, socket, sys, threading, time
from pathlib import Path
from collective.calls.call_manager import CallManager
from collective.model.layout import Layout
from tests.unit.calls.test_service import call

folder = Path(sys.argv[1])
(folder / "calls").mkdir()
call_manager = CallManager(Layout(str(folder), str(folder), str(folder)))
service = call_manager.serve("work", lambda served: b"yes")
# No descriptor is left for a moment: those who come then are served after it.
late = [socket.socket(socket.AF_UNIX) for _ in range(3)]
limit = resource.getrlimit(resource.RLIMIT_NOFILE)
taken = []
resource.setrlimit(resource.RLIMIT_NOFILE, (256, limit[1]))
try:
    while True:
        taken.append(os.dup(0))
except OSError:
    pass
late[0].connect(str(folder / "calls" / "work"))
time.sleep(0.5)
for each in taken:
    os.close(each)
resource.setrlimit(resource.RLIMIT_NOFILE, limit)
with call(folder / "calls") as caller:
    assert caller.receive() == b"yes", "it serves again"
# A child is no part of the service.
child = os.fork()
if child == 0:
    os._exit(0 if service._socket is None and service.is_closed else 1)
assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
with call(folder / "calls") as caller:
    assert caller.receive() == b"yes"
print("passed")
"""


def test_service_survives_a_shortage_and_a_fork(folder: Path) -> None:
    """In a process of its own: descriptors are the whole process's."""
    done = subprocess.run(
        [sys.executable, "-W", "ignore::DeprecationWarning", "-c", SCRIPT, str(folder)],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.stdout == "passed\n", done.stderr


def test_one_server_leaves_half_of_the_places_to_the_others(folder: Path) -> None:
    """Though it leaks its calls; and who gets none in time is told that nothing has happened."""
    begun, go_on = list[str](), threading.Event()

    def work(served: ServedCall) -> None:
        begun.append(served.caller.name)
        go_on.wait(SECONDS)

    other = Caller("mgt2", "127.0.0.2", "cd")
    with Service(folder, "work", work, most=4), ExitStack() as leaked:
        for _ in range(4):
            leaked.enter_context(call(folder))
        wait_until(lambda: len(begun) == 2, SECONDS, "half of them run")
        with call(folder, caller=other), call(folder, caller=other):
            wait_until(lambda: begun.count("mgt2") == 2, SECONDS, "the other one has places")
        with call(folder, seconds=SECONDS, left=0.3) as late, pytest.raises(RefusedError):
            late.receive()
        go_on.set()
    assert begun.count("mgt1") >= 2


@pytest.mark.parametrize(
    ("raised", "error"),
    [
        (RefusedError("locked"), RefusedError),
        (HandlerError("of a further call"), HandlerError),
        (SystemExit(), type(None)),
        (ZeroDivisionError(), type(None)),
    ],
)
def test_what_a_handler_raises_is_told_where_it_may_be(
    folder: Path, raised: BaseException, error: type[CollectiveError | None]
) -> None:
    """Errors of ours with what they are; of others, and of an exit, the log has the text."""

    def work(served: ServedCall) -> None:
        raise raised

    with Service(folder, "work", work), call(folder) as caller:
        with pytest.raises(HandlerError, match="failed") as caught:
            caller.receive()
        assert type(caught.value.error) is error


def test_two_who_begin_to_serve_a_name_at_one_moment_are_not_both_let(folder: Path) -> None:
    """The one that is not would serve nobody, and never know."""
    for _ in range(20):
        start, made = threading.Barrier(2), list[Service]()

        def begin(start: threading.Barrier = start, made: list[Service] = made) -> None:
            start.wait(SECONDS)
            with suppress(InputError):
                made.append(Service(folder, "work", lambda served: None))

        threads = [threading.Thread(target=begin) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(SECONDS)
        assert len(made) == 1
        made[0].close()


def test_keeper_that_could_not_be_started_is_started_later(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Or calls and services would show no sign of life from then on."""
    layout = Layout.from_environment({"COLLECTIVE_ROOT": str(folder)})
    Path(layout.calls).mkdir(parents=True)
    with CallManager(layout) as call_manager:
        with monkeypatch.context() as patched:
            patched.setattr(threading.Thread, "start", _no_thread)
            with pytest.raises(RuntimeError):
                call_manager.serve("work", lambda served: None)
        call_manager.serve("work", lambda served: None)
        assert call_manager._keeper is not None
        assert call_manager._keeper.is_alive()


def _no_thread(thread: threading.Thread) -> None:
    raise RuntimeError("can't start new thread")
