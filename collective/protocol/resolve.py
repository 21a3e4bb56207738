"""Turn a server's name into addresses, with a deadline.

It keeps nothing: each call asks again.

Invariants:
  * A slow name server costs the caller no more than its deadline.
"""

from __future__ import annotations

import socket
import threading
from pathlib import Path

from collective.errors import UnreachableError
from collective.files import read_private
from collective.model.names import is_ip_address


def resolve(host: str, hosts_file: Path | None, seconds: float) -> list[str]:
    """Return the IP addresses of a host, the preferred first, without repetition.

    Args:
        host: a name, or an IP address, which is returned as it is.
        hosts_file: a file in the form of hosts(5) that is looked at first, or None.
        seconds: deadline.

    Raises:
        UnreachableError: the name does not resolve, or not in time.
    """
    if is_ip_address(host):
        return [host]
    if hosts_file is not None:
        found = _in_hosts(host, hosts_file)
        if found:
            return found
    return _ask_system(host, seconds)


def _in_hosts(host: str, path: Path) -> list[str]:
    try:
        text = read_private(path).decode("utf-8", "replace")
    except FileNotFoundError:
        return []
    lines = (line.partition("#")[0].split() for line in text.splitlines())
    wanted = host.lower()
    return [w[0] for w in lines if w and wanted in (n.lower() for n in w[1:])]


def _reason(error: Exception) -> str:
    return str(getattr(error, "strerror", None) or error).lower()


def _ask_system(host: str, seconds: float) -> list[str]:
    answers: list[str] = []
    failures: list[OSError | UnicodeError] = []

    def ask() -> None:
        try:
            found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
            answers.extend(str(entry[4][0]) for entry in found)
        except (OSError, UnicodeError) as error:
            failures.append(error)

    # getaddrinfo(3) has no deadline of its own; a thread that is left behind ends by itself.
    thread = threading.Thread(target=ask, name="resolve", daemon=True)
    thread.start()
    thread.join(seconds)
    hint = "check the name, /etc/hosts and DNS, or give an address instead"
    if failures:
        raise UnreachableError(f"the name {host} does not resolve: {_reason(failures[0])}", hint)
    if not answers:
        raise UnreachableError(f"the name {host} did not resolve within {seconds:.0f} s", hint)
    return list(dict.fromkeys(answers))
