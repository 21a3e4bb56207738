"""What a command of the daemon is given."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, get_type_hints

from collective.daemon.addresses.keeper import AddressKeeper
from collective.daemon.joining.coordinator import JoinCoordinator
from collective.daemon.lifecycle.server import CollectiveServer
from collective.protocol.control import Request

Emit = Callable[[str, str], None]


@dataclass(frozen=True)
class Context:
    """The server that a command acts on, and who listens.

    Attributes:
        server: this server.
        coordinator: its joins.
        emit: gets the name of each step that is done, and a sentence.
        keeper: its changes of address; None for a command that another server has sent.
        sent_by: the member that has sent the command, as its certificate says; "" for one that
            was typed here.
    """

    server: CollectiveServer
    coordinator: JoinCoordinator
    emit: Emit
    keeper: AddressKeeper | None = None
    sent_by: str = ""

    def by(self, here: str) -> str:
        """Return who gave the command, for the record, on a server of this name."""
        return self.sent_by or here


#: Gets a request of the class that it is annotated with; returns the result, for a renderer and
#: for ``--json``.
Command = Callable[[Context, Any], Any]


def request_of(command: Command) -> type[Request]:
    """Return the class of the request that a command takes."""
    kind: type[Request] = get_type_hints(command)["request"]
    return kind
