"""A disk of its own for one server, which can be frozen: what is written then waits.

Only the daemon and its etcd see it, in a mount namespace of their own, so that it goes when they
end. It needs root, mkfs.ext4(8), unshare(1) and fsfreeze(8).

Invariants:
  * A frozen disk thaws when its block ends, and when this process does.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.harness.server import Server
from tests.harness.waiting import HarnessError

_BYTES = 1 << 30
_SECONDS = 20.0
_MOUNT = 'mount -o loop "$1" "$2" && shift 2 && exec "$@"'
# It reads until whoever started it closes the pipe, or is gone.
_FREEZE = 'fsfreeze -f "$1" && echo frozen; read _; fsfreeze -u "$1"'
_TOOLS = ("mkfs.ext4", "unshare", "fsfreeze")


class NoDiskError(Exception):
    """No disk can be made here; the text says why, as a part of a sentence."""


def put_on_own_disk(server: Server) -> None:
    """Have a server that does not run keep its data on a disk of its own from now on.

    Raises:
        NoDiskError: that needs root, or a tool that is not here.
    """
    missing = [tool for tool in _TOOLS if shutil.which(tool) is None]
    if missing or os.geteuid() != 0:
        raise NoDiskError(f"a disk that can be frozen needs {' and '.join(missing) or 'root'}")
    image, data = server.root / "disk.img", Path(server.layout.data)
    data.mkdir(exist_ok=True)
    with image.open("wb") as file:
        file.truncate(_BYTES)
    _run("mkfs.ext4", "-q", str(image))
    prefix = ("unshare", "-m", "sh", "-c", _MOUNT, "sh", str(image), str(data))
    try:
        _run(*prefix, "true")
    except subprocess.CalledProcessError as error:
        raise NoDiskError(f"nothing can be mounted: {error.stderr.strip()}") from error
    server.prefix = prefix


@contextmanager
def frozen(server: Server) -> Iterator[None]:
    """Have whatever a server writes to its own disk wait in a ``with`` block.

    Raises:
        HarnessError: it cannot be frozen.
    """
    # The disk is to be seen from inside of the daemon's mount namespace alone.
    place = f"/proc/{server.etcd_pid}/root{server.layout.data}"
    command = ["sh", "-c", _FREEZE, "sh", place]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            if process.stdout.readline() != "frozen\n":
                raise HarnessError(f"the disk of {server.name} cannot be frozen")
            yield
        finally:
            process.stdin.close()
            process.wait(_SECONDS)


def _run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True, text=True, timeout=_SECONDS)
