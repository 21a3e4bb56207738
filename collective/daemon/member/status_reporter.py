"""What this server says of itself to the others, and to ``show``.

It asks nobody but its own etcd and its own door.

Invariants:
  * The certificate that it tells is the one that its door was seen to show, not one on the disk.
"""

from __future__ import annotations

import logging
from collections.abc import Callable

from collective import __version__
from collective.daemon.member.credentials import Credentials
from collective.daemon.member.etcd_supervisor import EtcdSupervisor
from collective.errors import CollectiveError
from collective.etcd.api import Status, hex_id
from collective.model.high_water_mark import HighWaterMark
from collective.model.plan import Plan
from collective.pki import read_certificate
from collective.protocol.messages import ServerStatus
from collective.protocol.peer import served_certificate

log = logging.getLogger(__name__)

_DOOR_SECONDS = 1.0
# Who asks waits a second (``failure_detector``): it is to hear that etcd here does not answer.
_ETCD_SECONDS = 0.5


class StatusReporter:
    """The status of this server as one member.

    Attributes:
        trouble: what ``show`` is to say of this server's address, or "".
        standing: one sentence about how the collective is, "" before anybody has looked.
        durable: what our etcd has on its disk for sure; ``high_water_marks`` finds it out.
        served: fingerprint of the certificate that our door was last seen to show, "" while
            unknown.
    """

    def __init__(
        self,
        etcd: EtcdSupervisor,
        etcd_version: str,
        credentials: Credentials,
        plan: Callable[[], Plan],
    ) -> None:
        self._etcd, self._etcd_version = etcd, etcd_version
        self._credentials, self._plan = credentials, plan
        self.trouble = self.standing = ""
        self.durable: HighWaterMark | None = None
        self.served = ""
        self._served_wrongly: tuple[str, ...] = ()

    def note_trouble(self, told: str) -> None:
        """Have ``show`` say something of this server's address, "" for nothing."""
        self.trouble = told

    def note_standing(self, told: str) -> None:
        """Note how the collective is, in one sentence."""
        self.standing = told

    def note_durable(self, mark: HighWaterMark) -> None:
        """Note what our etcd has on its disk for sure."""
        self.durable = mark

    def status(self) -> ServerStatus:
        """Return what this server says of itself to others."""
        errors: list[str] = []
        status: Status | None = None
        try:
            status = self._etcd.status(_ETCD_SECONDS)
            errors += status.errors
        except CollectiveError as error:
            errors.append(error.message)
        errors += self._served_wrongly
        errors += [self.trouble] if self.trouble else []
        return ServerStatus(
            name=self._plan().name,
            release=__version__,
            etcd_version=self._etcd_version,
            member_id=hex_id(status.member_id) if status else "",
            leader=hex_id(status.leader) if status else "",
            term=status.term if status else 0,
            index=status.index if status else 0,
            applied=status.applied if status else 0,
            db_size=status.db_size if status else 0,
            learner=status.learner if status else False,
            certificate=self.served,
            errors=tuple(errors),
            addresses=self._credentials.identity.addresses,
            durable_term=self.durable.term if self.durable else 0,
            durable_index=self.durable.index if self.durable else 0,
            nonvoting=not self._etcd.votes,
        )

    def look_at_door(self) -> bool:
        """Connect to our own door: what counts is the certificate that others are shown.

        A new one that is on the disk alone is new for nobody (kubernetes issue 102556). Tell
        whether the door could be looked at.
        """
        plan, credentials = self._plan(), self._credentials
        self._served_wrongly = ()
        try:
            der = served_certificate(plan.address, plan.door_port, _DOOR_SECONDS)
            self.served = read_certificate(der).fingerprint
        except (CollectiveError, OSError) as error:
            log.debug("our own door cannot be looked at: %s", error)
            self.served = ""
            return False
        if self.served != credentials.identity.fingerprint:
            self._served_wrongly = (
                f"at {plan.address} another certificate is shown than the one in "
                f"{credentials.identity_file}: does another server answer there?",
            )
        elif not credentials.is_on_disk():
            self._served_wrongly = (
                f"{credentials.identity_file} does not have the certificate that is shown, "
                f"{self.served}: put that one back, or the others will refuse etcd here",
            )
        return True
