"""What there is to know of an asyncio stream, and to set on one."""

from __future__ import annotations

import asyncio
import hashlib
import socket

from collective.protocol.web import PeerCertificate

VANISHED_SECONDS = 10.0


def certificate_of(transport: asyncio.BaseTransport) -> PeerCertificate | None:
    """Return what a verified certificate says, or None: without one name it is nobody's."""
    tls = transport.get_extra_info("ssl_object")
    # Empty if the certificate was not verified, whatever the context asks for.
    facts = tls.getpeercert() or {}
    names = [
        value for part in facts.get("subject", ()) for key, value in part if key == "commonName"
    ]
    if len(names) != 1 or not names[0]:
        return None
    fingerprint = hashlib.sha256(tls.getpeercert(True)).hexdigest()
    return PeerCertificate(names[0], fingerprint)


def served_by(transport: asyncio.BaseTransport) -> str:
    """Return the fingerprint of the certificate that the other side served, verified or not."""
    tls = transport.get_extra_info("ssl_object")
    return hashlib.sha256(tls.getpeercert(True) or b"").hexdigest()


def wait_for_the_kernel(transport: asyncio.WriteTransport) -> None:
    """Have ``drain`` wait until the kernel has taken all."""
    # Not 0: asyncio's TLS transport would then take an empty buffer for a full one.
    transport.set_write_buffer_limits(high=1, low=0)


def tune(sock: socket.socket, seconds: float = VANISHED_SECONDS) -> None:
    """Send small answers at once, and notice a peer that vanished, after so many seconds.

    Raises:
        OSError: it is gone already.
    """
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    # A quiet stream to a dead host would otherwise last a quarter of an hour: tcp(7).
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, int(seconds * 1000))


def let_it_read(sock: socket.socket) -> None:
    """Let a peer that lives take its time to read, which TCP_USER_TIMEOUT takes for one that died.

    For what has ends that tell each other that they live; a quiet one is probed by the kernel.

    Raises:
        OSError: it is gone already.
    """
    if sock.family == socket.AF_UNIX:
        return
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, 0)
    probes = int(VANISHED_SECONDS) // 2
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, probes)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 1)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, probes)
