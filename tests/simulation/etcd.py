"""The etcd process of one life: whether it runs, and whom its files let in.

Invariants:
  * It reads its trust file when it starts, and its revocation list at each handshake.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager, nullcontext
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

from collective.daemon.member.etcd_trust import EtcdTrust
from collective.etcd.api import EtcdApi
from collective.model.plan import Plan
from collective.pki import Certificate, read_certificate

if TYPE_CHECKING:
    from tests.simulation.world import Machine, World

_END = "-----END CERTIFICATE-----\n"


@lru_cache(4096)
def certificates_in(trust_file: bytes) -> Mapping[str, Certificate]:
    """Return the certificates of a trust file, by fingerprint."""
    parts = trust_file.decode().split(_END)
    found = [read_certificate(part + _END) for part in parts if part.strip()]
    return {certificate.fingerprint: certificate for certificate in found}


def revocation_list(_key: bytes, _name: str, serials: Collection[str]) -> bytes:
    """Return what stands for a revocation list: its numbers."""
    return " ".join(sorted(serials)).encode()


class SimulatedEtcd:
    """A process that one life of a server starts and ends."""

    def __init__(self, world: World, machine: Machine, trust: EtcdTrust, gateway: EtcdApi) -> None:
        self._world, self._machine, self._trust = world, machine, trust
        self.gateway = gateway
        self._loaded: Mapping[str, Certificate] = {}
        self.running = False

    @property
    def failure(self) -> str | None:
        """None: it starts whenever it is told to."""
        return None

    @property
    def runs(self) -> bool:
        """Whether there is a process."""
        return self.running

    @property
    def trusted(self) -> Mapping[str, Certificate]:
        """The certificates that open its door, by fingerprint."""
        refused = self._world.files.get(self._trust.crl_file, b"").decode().split()
        return {f: c for f, c in self._loaded.items() if c.serial not in refused}

    def lets_in(self, certificate: Certificate) -> bool:
        """Tell whether a certificate opens its door now."""
        known = self._loaded.get(certificate.fingerprint)
        if known is None:
            return False
        return known.serial not in self._world.files[self._trust.crl_file].decode().split()

    def start(self, _plan: Plan, _alone: bool) -> None:
        """Read the trust file, and run."""
        self._loaded = certificates_in(self._world.files[self._trust.trust_file])
        self.running = True
        self._world.promises.started(self._machine, self)

    def kill(self) -> None:
        """End, to be started again; others go on meanwhile."""
        self._world.promises.restarted(self._machine, self._world.actors.current())
        self.running = False
        self._world.actors.interrupt()

    def stop(self) -> None:
        """End."""
        self.running = False

    def has_lost_socket(self) -> bool:
        """It has none."""
        return False

    def close(self) -> None:
        """Do nothing."""

    def relocate(self, _listen: object) -> None:
        """Do nothing: each server has all of its addresses all the time."""

    def take_detour(self, _variables: Mapping[str, str], _file: Path | None) -> None:
        """Do nothing: no server is found elsewhere than where it is recorded."""

    def has_answered(self) -> None:
        """Do nothing."""

    def held(self) -> AbstractContextManager[None]:
        """Hold nothing."""
        return nullcontext()
