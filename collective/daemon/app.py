"""The whole daemon, to be run by ``collectived`` or inside another Python server.

It sets up no log and no signals: that is for whoever's process it is.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from collective.daemon.addresses.keeper import AddressKeeper
from collective.daemon.certificates.connection_cutter import ConnectionCutter
from collective.daemon.certificates.replacement import Replacement
from collective.daemon.certificates.trust_round import TrustRound
from collective.daemon.joining.coordinator import JoinCoordinator
from collective.daemon.joining.promotee import Promotee
from collective.daemon.lifecycle.lives import all_listen_addresses
from collective.daemon.lifecycle.run_folder import EtcdSocketKeeper
from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.listeners import control_api, peer_api
from collective.daemon.listeners.service_calls import ServiceCalls
from collective.daemon.member.narrator import Narrator
from collective.daemon.member.presence import Presence
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.member.worker import Worker
from collective.daemon.membership.reconciler import Reconciler
from collective.daemon.settings import Settings
from collective.model.layout import Layout
from collective.protocol.door import Door

_CONTROL_MODE = 0o660


def workers_of(
    runtime: MemberRuntime, settings: Settings, catch_up: Callable[[], None]
) -> Sequence[Worker]:
    """Make the threads that act by themselves while this server is one member.

    Args:
        runtime: this server, as that member.
        settings: of this server.
        catch_up: takes up the records as a majority of the other voters' daemons tells them.
    """
    everywhere = (
        Replacement(runtime),
        Narrator(runtime),
        EtcdSocketKeeper(runtime),
        Presence(runtime),
    )
    if not runtime.votes:
        return everywhere
    reconciler = Reconciler(runtime, settings.learner_timeout)
    return (reconciler, TrustRound(runtime, catch_up), ConnectionCutter(runtime), *everywhere)


class Daemon:
    """One server of a collective, with its doors and all that acts.

    Attributes:
        server: what this server is.
    """

    def __init__(
        self, settings: Settings, layout: Layout, load_again: Callable[[], Settings]
    ) -> None:
        """Take the lock and find etcd; nothing runs yet.

        Args:
            settings: of this server.
            layout: its folders and sockets.
            load_again: reads the settings anew, for those that may change under way.

        Raises:
            RefusedError: another daemon runs on the same folders.
            EtcdError: etcd is missing or not fit.
            AccessError: a folder cannot be used.
        """
        self.server = CollectiveServer(settings, layout, workers_of)
        self._load_again = load_again

    def start(self) -> None:
        """Begin; returns when commands and members are answered. After an error, ``stop`` it.

        Raises:
            CollectiveError: the state cannot be used, or a door cannot be opened.
        """
        server = self.server
        server.doors.start()
        server.start()
        coordinator, keeper = JoinCoordinator(server), AddressKeeper(server, self._load_again)
        self._open_doors(coordinator, keeper)
        coordinator.resume()
        Promotee(server, coordinator).start()
        keeper.start()

    def stop(self) -> None:
        """Hand leadership over, end etcd, close the doors, release the lock."""
        self.server.stop()

    def _open_doors(self, coordinator: JoinCoordinator, keeper: AddressKeeper) -> None:
        """Open the network door and the control socket.

        Raises:
            InputError: an address is taken or not here.
            AccessError: a port or folder is not ours to use.
        """
        server = self.server
        calls = ServiceCalls(server)
        door = Door("member", peer_api.handler(server, coordinator, calls))
        server.listener.open(door, all_listen_addresses(server.settings, server.plan))
        # The control socket last: whoever is answered there finds the others open.
        calls.open_door()
        control_door = Door("control", control_api.handler(server, coordinator, keeper))
        server.doors.listen_unix(control_door, Path(server.layout.control_socket), _CONTROL_MODE)
