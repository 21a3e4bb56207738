"""Calls from software on one server to software on another, over real daemons and TLS."""

from __future__ import annotations

import ssl
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from time import monotonic

import pytest

import collective
from collective.errors import (
    ClosedError,
    CollectiveError,
    DaemonError,
    HandlerError,
    InDoubtError,
    InputError,
    NoServiceError,
    RefusedError,
    RemovedError,
    UnreachableError,
)
from tests.harness import Cluster, Server, wait_until
from tests.harness.doors import connect_tls
from tests.harness.embedder import say
from tests.harness.impostor import Kept
from tests.harness.processes import stopped
from tests.integration.test_nonvoting import join_nonvoting

pytestmark = pytest.mark.integration

SECONDS = 20.0
MakeCluster = Callable[..., Cluster]
Connect = Callable[[Server], collective.Collective]


@contextmanager
def embedder(server: Server) -> Iterator[subprocess.Popen[str]]:
    """Run a process that serves calls on a server."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.harness.embedder", str(server.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def whoever(call: collective.ServedCall) -> bytes:
    return f"{call.caller.name} {call.caller.address} {call.caller.fingerprint}".encode()


def test_service_is_called_by_name_from_every_server(
    make_cluster: MakeCluster, connect: Connect
) -> None:
    """Voters, one without a vote, and its own; it knows who calls, whatever they say."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    mgt3 = join_nonvoting(cluster, mgt1)
    handles = [connect(server) for server in (mgt1, mgt2, mgt3)]
    for serving in handles:
        serving.serve("whoever", whoever)
    for calling in handles:
        for serving in handles:
            told = calling.ask(serving.name, "whoever", b"I am somebody else").decode().split()
            member = serving.member(calling.name)
            assert told[:2] == [member.name, member.address]
            assert told[2] in member.fingerprints


def test_much_passes_both_ways_and_nobody_holds_it_all(
    make_cluster: MakeCluster, connect: Connect
) -> None:
    """A reader that is slow slows its sender down; calls side by side do not wait for it."""
    cluster = make_cluster(2)
    mgt1, mgt2 = (connect(server) for server in cluster.servers.values())
    part, go_on = b"x" * (1 << 20), threading.Event()

    def count(call: collective.ServedCall) -> bytes:
        assert go_on.wait(SECONDS)
        return str(sum(len(message) for message in call)).encode()

    def give(call: collective.ServedCall) -> None:
        for _ in range(30):
            call.send(part)

    mgt2.serve("count", count)
    mgt2.serve("give", give)
    mgt2.serve("echo", lambda call: call.receive())
    sent: list[int] = []
    with mgt1.call("mgt2", "count", seconds=60.0) as call:

        def fill() -> None:
            for number in range(30):
                call.send(part)
                sent.append(number)
            call.finish()

        sender = threading.Thread(target=fill)
        sender.start()
        assert mgt1.ask("mgt2", "echo", b"meanwhile") == b"meanwhile"
        assert len(sent) < 25, "nobody reads, and it was taken all the same"
        go_on.set()
        assert call.receive() == str(30 << 20).encode()
        sender.join()
    assert len(mgt1.ask("mgt2", "give", seconds=60.0)) == 30 << 20


def test_slow_reader_gets_all_of_a_reply_that_has_ended(
    make_cluster: MakeCluster, connect: Connect
) -> None:
    """Though its own signs of life come to who has nothing more to say."""
    cluster = make_cluster(2)
    mgt1, mgt2 = (connect(server) for server in cluster.servers.values())

    def give(call: collective.ServedCall) -> None:
        for number in range(110):
            call.send(number.to_bytes(4, "big") * 1024)

    mgt2.serve("give", give)
    for calling in (mgt1, mgt2):
        with calling.call("mgt2", "give", seconds=60.0) as call:
            got = []
            for message in call:
                got.append(int.from_bytes(message[:4], "big"))
                threading.Event().wait(0.03)
        assert got == list(range(110))


def test_what_goes_wrong_is_told_apart(make_cluster: MakeCluster, connect: Connect) -> None:
    """Nothing has happened, it has failed there, or nobody knows."""
    cluster = make_cluster(2)
    servers = list(cluster.servers.values())
    mgt1, mgt2 = (connect(server) for server in servers)
    began = threading.Event()

    def refuse(call: collective.ServedCall) -> None:
        raise RefusedError("n1 is locked")

    def fail(call: collective.ServedCall) -> None:
        raise ZeroDivisionError("a secret of the handler")

    def hang(call: collective.ServedCall) -> None:
        began.set()
        with pytest.raises(ClosedError):
            say(call)
        threading.Event().wait(6.0)

    for handler in (refuse, fail, hang):
        mgt2.serve(handler.__name__, handler, most=1)
    with pytest.raises(HandlerError, match="n1 is locked") as caught:
        mgt1.ask("mgt2", "refuse")
    assert isinstance(caught.value.error, RefusedError)
    with pytest.raises(HandlerError, match="the handler raised an error") as caught:
        mgt1.ask("mgt2", "fail")
    assert caught.value.error is None
    assert "secret" not in str(caught.value)
    with pytest.raises(InDoubtError, match="did not end within 2 s"):
        mgt1.ask("mgt2", "hang", seconds=2.0)
    assert began.is_set()
    began.clear()
    with pytest.raises(InDoubtError):
        mgt1.ask("mgt2", "hang", seconds=2.0)
    assert not began.is_set(), "one at a time, and this one's caller is gone"
    for member, service, error in (
        ("mgt2", "nothing", NoServiceError),
        ("mgt9", "refuse", InputError),
        ("mgt2", "No Name", InputError),
        ("mgt 2", "refuse", InputError),
    ):
        with pytest.raises(error):
            mgt1.ask(member, service)
    for seconds in (0.0, -1.0, float("inf"), float("nan")):
        with pytest.raises(InputError, match="cannot last"):
            mgt1.ask("mgt2", "refuse", seconds=seconds)
    with pytest.raises(InputError, match="another process"):
        mgt2.serve("refuse", refuse)
    mgt1.close()
    for use in (lambda: mgt1.ask("mgt2", "refuse"), lambda: mgt1.serve("refuse", refuse)):
        with pytest.raises(ClosedError):
            use()
    servers[1].stop()
    with pytest.raises(DaemonError, match="does not answer here"):
        mgt2.ask("mgt1", "refuse")


def test_who_hangs_or_dies_is_found_out(make_cluster: MakeCluster, connect: Connect) -> None:
    """A process that is killed at once, a paused one in ten seconds; the next one takes over."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    handle = connect(mgt1)
    with embedder(mgt2) as process:
        assert handle.ask("mgt2", "echo", b"a") == b"A"
        with handle.call("mgt2", "sleep", seconds=60.0) as call:
            begun = monotonic()
            with (
                stopped(process.pid),
                pytest.raises(InDoubtError, match="fell silent for 10 s"),
            ):
                call.receive()
            assert monotonic() - begun < 15.0
        with handle.call("mgt2", "sleep", seconds=60.0) as call:
            begun = monotonic()
            process.kill()
            with pytest.raises(InDoubtError, match="broke off"):
                call.receive()
            assert monotonic() - begun < 5.0
        with pytest.raises(NoServiceError):
            handle.ask("mgt2", "echo", b"a")
    with embedder(mgt2):
        assert handle.ask("mgt2", "echo", b"b") == b"B"
        mgt2.pause()
        try:
            begun = monotonic()
            with pytest.raises(UnreachableError, match="no answer within"):
                handle.ask("mgt2", "echo", b"c")
            assert monotonic() - begun < 9.0
        finally:
            mgt2.resume()


def test_service_outlives_its_daemon(cluster: Cluster, connect: Connect) -> None:
    """It is there again after a restart, also where that clears the folder of sockets."""
    (mgt1,) = cluster.add_running(1)
    handle = connect(mgt1)
    handle.serve("echo", lambda call: call.receive())
    with handle.call("mgt1", "echo", seconds=60.0) as call:
        mgt1.restart()
        with pytest.raises(InDoubtError):
            call.receive()
    assert handle.ask("mgt1", "echo", b"a") == b"a"
    Path(mgt1.layout.calls, "echo").unlink()

    def answered() -> bool:
        try:
            return handle.ask("mgt1", "echo", b"b") == b"b"
        except NoServiceError:
            return False

    wait_until(answered, SECONDS, "it listens anew")


@pytest.mark.parametrize("votes", [True, False])
def test_deleted_server_is_cut_off_both_ways(
    make_cluster: MakeCluster, connect: Connect, tmp_path: Path, votes: bool
) -> None:
    """Promise P4: when ``delete`` returns it hears nothing more, and nothing it says is heard."""
    cluster = make_cluster(3 if votes else 2)
    mgt1, mgt2 = list(cluster.servers.values())[:2]
    mgt3 = cluster["mgt3"] if votes else join_nonvoting(cluster, mgt1)
    handle, other = connect(mgt1), connect(mgt3)
    kept = Kept.of(mgt3, tmp_path / "kept").identity
    heard: dict[str, int] = {"mgt1": 0, "mgt3": 0}

    def hear(at: str) -> Callable[[collective.ServedCall], None]:
        def handler(call: collective.ServedCall) -> None:
            for _ in call:
                heard[at] += 1

        return handler

    handle.serve("hear", hear("mgt1"))
    other.serve("hear", hear("mgt3"))
    ended = threading.Event()

    def speak(calling: collective.Collective, to: str) -> None:
        try:
            with calling.call(to, "hear", seconds=60.0) as call:
                while not ended.wait(0.002):
                    call.send(b"x")
        except CollectiveError:
            pass

    speakers = [
        threading.Thread(target=speak, args=(calling, to), daemon=True)
        for calling, to in ((handle, "mgt3"), (other, "mgt1"))
    ]
    for speaker in speakers:
        speaker.start()
    wait_until(lambda: all(heard.values()), SECONDS, "both are heard")
    # Its daemon neither learns of it nor closes anything by itself.
    mgt3.pause()
    try:
        mgt2.run("delete", "--force", "mgt3", check=True)
        # That it falls silent would be found out too, but not within ten seconds.
        speakers[0].join(4.0)
        assert not speakers[0].is_alive()
        with pytest.raises((InputError, UnreachableError, RemovedError)):
            handle.ask("mgt3", "hear", seconds=5.0)
        at_first = dict(heard)
    finally:
        mgt3.resume()
    speakers[1].join(SECONDS)
    assert heard["mgt1"] == at_first["mgt1"]
    assert knock(mgt1, kept) == "refused"
    ended.set()


def knock(server: Server, leaf: Path) -> str:
    """Ask for a call at a door with a certificate, as who has kept it would."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.load_cert_chain(leaf)
    request = (
        b"POST /v1/call/hear?format=1&seconds=5 HTTP/1.1\r\nHost: x\r\n"
        b"Connection: Upgrade\r\nUpgrade: collective-call\r\n\r\n"
    )
    try:
        with connect_tls((server.address, server.port), context) as tls:
            tls.settimeout(SECONDS)
            tls.sendall(request)
            answer = tls.recv(65536)
    except OSError:
        return "refused"
    return "let in" if answer.startswith(b"HTTP/1.1 101") else "refused"


def test_door_lets_members_through_and_nobody_else(
    make_cluster: MakeCluster, connect: Connect, tmp_path: Path
) -> None:
    """None that somebody makes with a member's key, or signs with it, or that looks like it."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    connect(mgt1).serve("hear", lambda call: None)
    kept = Kept.of(mgt2, tmp_path / "kept")
    assert knock(mgt1, kept.identity) == "let in"
    for made in kept.all_new("mgt2", mgt2.address):
        assert knock(mgt1, made) == "refused", made.name
