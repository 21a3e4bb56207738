"""Tests of collective.daemon.notify, against a real datagram socket."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from collective.daemon.notify import Notifier


@pytest.fixture(params=["path", "abstract"])
def manager(
    request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[tuple[socket.socket, str]]:
    """Give a service manager's socket and the text that names it."""
    if request.param == "path":
        text = address = str(tmp_path / "n")
    else:
        text = f"@collective-test-{os.getpid()}"
        address = "\0" + text[1:]
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(address)
        sock.setblocking(False)
        yield sock, text


def test_each_call_sends_its_line(manager: tuple[socket.socket, str]) -> None:
    """Each call is one datagram in the form of sd_notify(3)."""
    sock, text = manager
    notifier = Notifier({"NOTIFY_SOCKET": text})
    notifier.status("waiting for etcd")
    notifier.ready()
    notifier.watchdog()
    notifier.stopping()
    lines = [sock.recv(4096) for _ in range(4)]
    assert lines == [b"STATUS=waiting for etcd", b"READY=1", b"WATCHDOG=1", b"STOPPING=1"]


def test_status_with_several_lines_stays_one_field(manager: tuple[socket.socket, str]) -> None:
    """A text from elsewhere cannot say READY=1, and odd characters do no harm."""
    sock, text = manager
    Notifier({"NOTIFY_SOCKET": text}).status("one\nREADY=1\r\ttwo ä \udcff")
    assert sock.recv(4096) == "STATUS=one READY=1 two ä ?".encode()


@pytest.mark.parametrize("text", [None, "", "@", "relative", "vsock:2:1", "/no/such/socket"])
def test_no_usable_socket_does_nothing(text: str | None) -> None:
    """Every call is harmless without a service manager."""
    notifier = Notifier({} if text is None else {"NOTIFY_SOCKET": text})
    notifier.ready()
    notifier.status("x")
    notifier.watchdog()
    notifier.stopping()


@pytest.mark.parametrize("text", ["/" + "x" * 200, "/a\0b", "/\ud800", "@" + "x" * 200])
def test_impossible_address_raises_nothing(text: str) -> None:
    """An address that no socket can have is no reason to stop."""
    Notifier({"NOTIFY_SOCKET": text}).ready()


def test_manager_that_reads_nothing_does_not_hold_the_daemon_up(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """A full queue costs at most the deadline, and a line in the log."""
    monkeypatch.setattr("collective.daemon.notify._DEADLINE_SECONDS", 0.01)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(str(tmp_path / "n"))
        notifier = Notifier({"NOTIFY_SOCKET": str(tmp_path / "n")})
        for _ in range(100_000):
            notifier.watchdog()
            if caplog.records:
                break
    assert "service manager not notified: message='WATCHDOG=1'" in caplog.text


@pytest.mark.parametrize(
    ("environ", "seconds"),
    [
        ({"WATCHDOG_USEC": "30000000"}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid())}, 15.0),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": str(os.getpid() + 1)}, None),
        ({"WATCHDOG_USEC": "30000000", "WATCHDOG_PID": "x"}, None),
        ({"WATCHDOG_USEC": "0"}, None),
        ({"WATCHDOG_USEC": "-5"}, None),
        ({"WATCHDOG_USEC": "x"}, None),
        ({"WATCHDOG_USEC": "9" * 5000}, None),
        ({}, None),
    ],
)
def test_watchdog_time_is_halved_and_meant_for_this_process(
    environ: dict[str, str], seconds: float | None
) -> None:
    """Only a sound time that is meant for this process counts."""
    assert Notifier({"NOTIFY_SOCKET": "/n", **environ}).watchdog_seconds == seconds


def test_watchdog_without_a_socket_is_none() -> None:
    """Where nothing can be sent, nothing has to be."""
    assert Notifier({"WATCHDOG_USEC": "30000000"}).watchdog_seconds is None
