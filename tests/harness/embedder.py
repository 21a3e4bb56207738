"""A process beside a daemon that serves calls: what a test can pause and kill.

    python -m tests.harness.embedder ROOT

It serves ``echo`` (each message in capitals), ``sleep`` (never answers) and ``say`` (a message
every 0.1 s), and says "ready" when they can be called.
"""

from __future__ import annotations

import sys
import threading

import collective


def echo(call: collective.ServedCall) -> None:
    """Answer each message."""
    for message in call:
        call.send(message.upper())


def sleep(call: collective.ServedCall) -> None:
    """Never answer."""
    threading.Event().wait(3600.0)


def say(call: collective.ServedCall) -> None:
    """Send without an end."""
    while True:
        call.send(b"still here")
        threading.Event().wait(0.1)


def main() -> None:
    """Serve until killed, or until standard input ends."""
    with collective.connect(sys.argv[1], seconds=30.0) as handle:
        for handler in (echo, sleep, say):
            handle.serve(handler.__name__, handler)
        print("ready", flush=True)
        sys.stdin.read()


if __name__ == "__main__":
    main()
