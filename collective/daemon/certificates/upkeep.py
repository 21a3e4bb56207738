"""Look after this server's certificate: valid, renewed in time, written down, and shown.

It makes none itself; ``renewal`` does.
"""

from __future__ import annotations

import logging

from collective.daemon.certificates.credentials import is_valid, renewal_due
from collective.daemon.certificates.renewal import (
    gencert,
    is_unrecorded,
    reissue_invalid,
    write_down,
)
from collective.daemon.clock import elapsed, utc_now
from collective.daemon.node import Node
from collective.errors import CollectiveError
from collective.model.plan import Mode

log = logging.getLogger(__name__)

_RENEW_SECONDS = 600.0
_WRITE_SECONDS = 2.0
_LOOK_SECONDS = 30.0


class Upkeep:
    """What is due next, by the clock that nobody sets."""

    def __init__(self) -> None:
        self._renew = self._write = self._look = 0.0
        self._shown = ""

    def tend(self, node: Node, mode: Mode) -> None:
        """Do what is due; what fails is logged, and tried again later."""
        leaf = node.credentials.leaf
        try:
            if not is_valid(leaf, utc_now()):
                with node.renewing:
                    if reissue_invalid(node.credentials, node.plan.address, utc_now()):
                        node.prober.use(node.credentials.client_context)
            if renewal_due(leaf, utc_now()) and elapsed() > self._renew:
                self._renew = elapsed() + _RENEW_SECONDS
                gencert(node)
            if mode is Mode.MEMBER and is_unrecorded(node) and elapsed() > self._write:
                self._write = elapsed() + _WRITE_SECONDS
                write_down(node)
        except CollectiveError as error:
            log.warning("the certificate is not as it should be: %s", error)
        if node.credentials.leaf.fingerprint != self._shown or elapsed() > self._look:
            self._look = elapsed() + _LOOK_SECONDS
            node.look_at_door()
            self._shown = node.served.fingerprint if node.served is not None else ""
