"""Sockets that listen: made with their final rights, and errors that name the place.

It does not accept anything and does not know what is spoken.

Invariants:
  * A unix socket never answers before it has its mode, and is at its path only when it listens.
  * A socket that somebody still answers on, or a file that is no socket, is never replaced.
"""

from __future__ import annotations

import errno
import os
import secrets
import socket
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from collective.errors import AccessError, CollectiveError, InputError
from collective.files import lock_file
from collective.model.names import bracketed

_BACKLOG = 512
# Requests are small: what a stranger may leave in the kernel should be so too.
_RECEIVE_BUFFER = 65536
_PROBE_SECONDS = 1.0
# For one who probes, and more.
_ALONE_SECONDS = 3.0


def bind_tcp(host: str, port: int) -> socket.socket:
    """Listen on a TCP port.

    Args:
        host: an address of this machine or a name for one; ``::`` takes IPv4 as well.
        port: 0 lets the kernel choose.

    Raises:
        AccessError: the port is reserved for root.
        InputError: the address is not here, or the port is taken.
    """
    where = f"{bracketed(host)}:{port}"
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        sock = socket.create_server(
            found[0][4][:2],
            family=found[0][0],
            backlog=_BACKLOG,
            dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6(),
        )
    except OSError as error:
        raise _cannot_listen(where, error) from error
    # Inherited by what is accepted.
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    sock.setblocking(False)
    return sock


def bind_unix(path: Path, mode: int) -> socket.socket:
    """Listen on a unix socket, in the place of one that nobody answers on.

    Args:
        path: its folder must exist.
        mode: the rights of the socket file.

    Raises:
        AccessError: no right to the folder or to the file that is there.
        InputError: another process answers there, or what is there is no socket.
    """
    # No longer than the shortest name of ours: the path of a socket has little room.
    temporary = path.with_name(f".{secrets.token_hex(2)}")
    try:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    except OSError as error:
        raise _cannot_listen(str(path), error) from error
    try:
        _check_free(path)
        sock.bind(os.fspath(temporary))
        # Until it listens, nobody can connect, whatever the umask left open.
        os.chmod(temporary, mode)
        sock.listen(_BACKLOG)
        os.rename(temporary, path)
    except OSError as error:
        _discard(sock, temporary)
        raise _cannot_listen(str(path), error) from error
    except BaseException:
        _discard(sock, temporary)
        raise
    sock.setblocking(False)
    return sock


def identity(path: Path) -> tuple[int, int]:
    """Return what tells a file at a path from another that is put there later."""
    facts = path.lstat()
    return facts.st_dev, facts.st_ino


def remove_socket(path: Path, wanted: tuple[int, int]) -> None:
    """Remove a socket file, unless it is gone or another's by now."""
    with suppress(OSError):
        if identity(path) == wanted:
            path.unlink()


@contextmanager
def alone_in(folder: Path) -> Iterator[None]:
    """Let nobody else make a socket in a folder that several processes make some in.

    Raises:
        InputError: another process does not come to an end with it.
        AccessError: no right to the folder.
    """
    # Root and the daemon's user may both have made it; to lock it takes no right to write.
    try:
        fd = os.open(folder / ".lock", os.O_RDONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise _cannot_listen(str(folder), error) from error
    try:
        if not lock_file(fd, _ALONE_SECONDS):
            raise InputError(f"cannot listen in {folder}: another process is about to, and hangs")
        yield
    finally:
        os.close(fd)


def _check_free(path: Path) -> None:
    try:
        facts = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(facts.st_mode):
        raise InputError(f"cannot listen on {path}: there is a file that is not a socket")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_SECONDS)
        try:
            probe.connect(os.fspath(path))
        except (ConnectionRefusedError, FileNotFoundError):
            return
        except (TimeoutError, socket.timeout, BlockingIOError):
            pass  # its queue is full, so somebody does listen
    raise InputError(f"cannot listen on {path}: another process answers there")


def _discard(sock: socket.socket, path: Path) -> None:
    sock.close()
    with suppress(OSError):  # what failed before is what matters
        path.unlink()


def _cannot_listen(where: str, error: OSError) -> CollectiveError:
    if isinstance(error, PermissionError):
        return AccessError(f"cannot listen on {where}: permission denied")
    if isinstance(error, socket.gaierror) or error.errno is None:
        return InputError(f"cannot listen on {where}: {str(error.strerror or error).lower()}")
    hint = None
    if error.errno == errno.EADDRINUSE:
        hint = "stop the other program there, or set another port"
    return InputError(f"cannot listen on {where}: {os.strerror(error.errno).lower()}", hint)
