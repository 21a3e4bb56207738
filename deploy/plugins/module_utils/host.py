# Copyright the Confluent collective developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""What the kernel and systemd say of this host, as far as a collective cares.

It asks no daemon and changes nothing.
"""

from __future__ import annotations

import os
import re
import time

_LISTENS = "0A"
_UFW = "/etc/ufw/ufw.conf"
_TABLES = ("/proc/net/tcp", "/proc/net/tcp6")


def listening(tables: list[str]) -> dict[int, str]:
    """Return the TCP ports that somebody listens on, each with the inode of the socket.

    Args:
        tables: texts of the kernel's tables, as in /proc/net/tcp.
    """
    found = {}
    for table in tables:
        for line in table.splitlines()[1:]:
            words = line.split()
            if len(words) > 9 and words[3] == _LISTENS:
                found[int(words[1].rpartition(":")[2], 16)] = words[9]
    return found


def door(address: str, port: int) -> str:
    """Return an address with its port, an IPv6 address in brackets (RFC 3986)."""
    return f"[{address}]:{port}" if ":" in address else f"{address}:{port}"


def changed_since(
    began: float | None, times: list[tuple[str, float | None]], now: float
) -> list[str]:
    """Return the paths that were changed after a daemon began, in the order given.

    Args:
        began: seconds since the epoch, or None where none runs.
        times: pairs of a path and when it was changed, None where it is not there.
        now: seconds since the epoch.
    """
    if began is None:
        return []
    # A change in the future was made before the clock was set back: it says nothing.
    return [path for path, when in times if when is not None and began < when <= now]


def etcd_version(said: str) -> str:
    """Return the version that 'collectived --check', or 'etcd --version', told, or nothing."""
    found = re.search(r"(?:: etcd|etcd Version:) (\d+\.\d+\.\d+)", said)
    return found[1] if found else ""


def package_version(said: str, present: bool = False) -> str:
    """Return the version of a program's package, or nothing.

    Args:
        said: by dpkg-deb --field, apt-cache policy, rpm --query, dnf repoquery or zypper info.
        present: whether the one that is installed counts, where there is one.
    """
    words = r"Installed:|Candidate:" if present else r"Candidate:|Version\s*:"
    pattern = rf"\s*(?:{words})?\s*(?:\d+:)?(\d+\.\d+\.\d+)\S*\s*"
    found = (re.fullmatch(pattern, line) for line in said.splitlines())
    return next((match[1] for match in found if match), "")


def is_ufw_on(text: str) -> bool:
    """Whether the text of ufw's own settings has it on."""
    return re.search(r"^\s*ENABLED\s*=\s*[\"']?yes\b", text, re.MULTILINE) is not None


def take_ufw() -> list[str]:
    """Return ["ufw"] where it is on here."""
    try:
        with open(_UFW) as file:
            return ["ufw"] if is_ufw_on(file.read()) else []
    except OSError:
        return []


def take_listening() -> dict[int, str]:
    """Return the ports that are in use here, with the name of who has them, as far as is known."""
    texts = []
    for table in _TABLES:
        try:
            with open(table) as file:
                texts.append(file.read())
        except OSError:
            continue
    sockets = listening(texts)
    owners = _owners({f"socket:[{inode}]" for inode in sockets.values()})
    return {port: owners.get(f"socket:[{inode}]", "") for port, inode in sockets.items()}


def _owners(wanted: set[str]) -> dict[str, str]:
    found = {}
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            for number in os.listdir(f"/proc/{pid}/fd"):
                target = os.readlink(f"/proc/{pid}/fd/{number}")
                if target in wanted:
                    with open(f"/proc/{pid}/comm") as file:
                        found[target] = file.read().strip()
        except OSError:
            continue  # it has just ended
    return found


def changed_at(path: str) -> float | None:
    """Return when a file, or a link itself, was changed last here, or None."""
    try:
        return os.lstat(path).st_ctime
    except OSError:
        return None


def not_links(paths: list[str]) -> list[str]:
    """Return those of some paths that are there, and are no links."""
    return [path for path in paths if os.path.lexists(path) and not os.path.islink(path)]


def began_at(monotonic_us: int) -> float | None:
    """Return a moment in seconds since the epoch, or None.

    Args:
        monotonic_us: the moment as systemd tells it, in microseconds of the monotonic clock, or 0.
    """
    if not monotonic_us:
        return None
    return time.time() - time.monotonic() + monotonic_us / 1e6
