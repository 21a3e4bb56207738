"""Tell the service manager how the daemon is doing, with the protocol of sd_notify(3).

It does not decide when the daemon is ready or well.

Invariants:
  * Without $NOTIFY_SOCKET nothing happens.
  * Nothing is raised, whatever the socket does, and no call waits longer than a second.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Mapping

_log = logging.getLogger(__name__)

_DEADLINE_SECONDS = 1.0


class Notifier:
    """The line to the service manager that started this process.

    Attributes:
        watchdog_seconds: how often to call ``watchdog``: half of the time after which the
            service manager takes the daemon for dead; None when it does not watch it.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        self._address = _address(environ.get("NOTIFY_SOCKET", ""))
        self.watchdog_seconds = None if self._address is None else _watchdog_seconds(environ)

    def ready(self) -> None:
        """Say that the daemon has started."""
        self._send("READY=1")

    def status(self, text: str) -> None:
        """Show one line about what the daemon does, in ``systemctl status``."""
        self._send("STATUS=" + " ".join(text.split()))

    def watchdog(self) -> None:
        """Say that the daemon is alive."""
        self._send("WATCHDOG=1")

    def stopping(self) -> None:
        """Say that the daemon is on its way out."""
        self._send("STOPPING=1")

    def _send(self, message: str) -> None:
        if self._address is None:
            return
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
                sock.settimeout(_DEADLINE_SECONDS)
                sock.sendto(message.encode("utf-8", "replace"), self._address)
        except (OSError, ValueError) as error:
            _log.warning("service manager not notified: message=%r error=%s", message, error)


def _address(text: str) -> str | None:
    """Return the address to send to; the abstract namespace is written with an @."""
    if text.startswith("/"):
        return text
    if text.startswith("@") and len(text) > 1:
        return "\0" + text[1:]
    return None


def _watchdog_seconds(environ: Mapping[str, str]) -> float | None:
    """Return half of the watchdog's time, where it is meant for this process.

    See sd_watchdog_enabled(3): WATCHDOG_PID, where set, names the process that is watched.
    """
    if environ.get("WATCHDOG_PID", str(os.getpid())) != str(os.getpid()):
        return None
    text = environ.get("WATCHDOG_USEC", "")
    if not (text.isascii() and text.isdigit() and len(text) <= 18) or int(text) == 0:
        return None
    return int(text) / 2_000_000
