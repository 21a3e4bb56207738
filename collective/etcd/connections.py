"""The TCP connections of another process of our user: end those that wait too long to send again.

A network that drops packets without a word leaves a connection open at both ends, and the kernel
sends again after pauses that double each time, of up to two minutes (RFC 6298). Nothing tells it
that the network is back. etcd up to 3.4 gives a stream up when it hears nothing for five seconds;
from 3.5 on it does not: its time-outs are in the Dial of an http.Transport, which takes its
DialContext where both are set (client/pkg/transport/timeout_transport.go). So its
members wait for each other for as long again as the network was gone.

It does not know who is back; whoever calls does. It needs Linux 5.6, and the right to trace the
process (ptrace(2), PTRACE_MODE_ATTACH_REALCREDS), which a parent has of the same user's child.

Invariants:
  * A connection is ended only while it has sent something that was not acknowledged, has tried
    again at least twice, and waits: never one that is idle, or whose other end does not read.
"""

from __future__ import annotations

import ctypes
import errno
import ipaddress
import os
import socket
import struct
from collections.abc import Collection, Iterator
from contextlib import closing, suppress
from dataclasses import dataclass

#: The same on all architectures but Alpha (linux/include/uapi/asm-generic/unistd.h). Not those of
#: the os module, which a Python that was built on an older kernel has not.
_PIDFD_OPEN, _PIDFD_GETFD = 434, 438
_ESTABLISHED = 1
#: The next try is made after 0.8 s or more: four times the shortest time-out.
_LEAST_BACKOFF = 2
#: Of ``struct tcp_info`` (linux/include/uapi/linux/tcp.h): state, backoff, unacknowledged.
_INFO = struct.Struct("=B3xB3x16xI")
#: Closing sends a reset at once, past all that waits: socket(7), SO_LINGER.
_AT_ONCE = struct.pack("ii", 1, 0)

_libc = ctypes.CDLL(None, use_errno=True)


@dataclass(frozen=True)
class Sending:
    """How far a TCP connection is with what it sends.

    Attributes:
        state: as the kernel counts them; 1 is established.
        backoff: how often the time until the next try was doubled.
        unacknowledged: segments that were sent, and not acknowledged.
    """

    state: int
    backoff: int
    unacknowledged: int

    @classmethod
    def of(cls, tcp: socket.socket) -> Sending:
        """Ask the kernel.

        Raises:
            OSError: it is no TCP connection.
        """
        return cls(*_INFO.unpack(tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)))

    @property
    def is_stuck(self) -> bool:
        """Whether it waits long before it tries again.

        One whose other end does not read has everything acknowledged that it may send.
        """
        waits = self.unacknowledged > 0 and self.backoff >= _LEAST_BACKOFF
        return self.state == _ESTABLISHED and waits


def reset_stuck(pid: int, addresses: Collection[str]) -> int:
    """End the connections of a process that are stuck, so that both ends hear of it at once.

    Args:
        pid: of the process.
        addresses: IP addresses; connections with others are left alone.

    Returns:
        How many there were.

    Raises:
        OSError: its connections may not be touched, this kernel cannot do it, or it has ended.
    """
    count = 0
    for tcp in _sockets_of(pid):
        with closing(tcp), suppress(OSError):  # it is no TCP, or was closed meanwhile
            if _peer(tcp) in addresses and Sending.of(tcp).is_stuck:
                tcp.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _AT_ONCE)
                tcp.shutdown(socket.SHUT_RDWR)
                count += 1
    return count


def _sockets_of(pid: int) -> Iterator[socket.socket]:
    """Return each socket of a process, as a descriptor of our own (pidfd_getfd(2))."""
    held = _call(_PIDFD_OPEN, pid, 0)
    try:
        for number in os.listdir(f"/proc/{pid}/fd"):
            with suppress(FileNotFoundError):  # closed meanwhile
                if os.readlink(f"/proc/{pid}/fd/{number}").startswith("socket:"):
                    descriptor = _take(held, int(number))
                    if descriptor is not None:
                        yield socket.socket(fileno=descriptor)
    finally:
        os.close(held)


def _take(held: int, number: int) -> int | None:
    try:
        return _call(_PIDFD_GETFD, held, number, 0)
    except OSError as error:
        if error.errno != errno.EBADF:
            raise
        return None  # closed meanwhile


def _call(number: int, *arguments: int) -> int:
    """Make a system call, see syscall(2)."""
    result = int(_libc.syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))
    return result


def _peer(tcp: socket.socket) -> str:
    """Return the IP address of the other end, "" for a socket of another kind, such as netlink."""
    if tcp.family not in (socket.AF_INET, socket.AF_INET6):
        return ""
    address = ipaddress.ip_address(str(tcp.getpeername()[0]).partition("%")[0])
    mapped = getattr(address, "ipv4_mapped", None)
    return str(mapped or address)
