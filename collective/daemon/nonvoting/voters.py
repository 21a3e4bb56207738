"""Ask a voter for what this server cannot do: become a learner, carry out a command.

Whether it does, the voter decides (``policy.roles``), on the certificate of this server.

Invariants:
  * A command that was sent and got no answer is not sent again: who gave it looks, and repeats.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Collection, Mapping
from typing import Any

from collective.daemon.member.quorum import needs_quorum
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import (
    CollectiveError,
    ProtocolError,
    QuorumError,
    RefusedError,
    UnreachableError,
    from_wire,
)
from collective.model.names import natural_key
from collective.model.records import MemberRecord
from collective.protocol.messages import COMMAND, M, Message, SentCommand
from collective.protocol.peer import PeerClient

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 2.0
_SILENCE_SECONDS = 5.0

Emit = Callable[[str, str], None]


def candidates(runtime: MemberRuntime, without: Collection[str] = ()) -> list[MemberRecord]:
    """Return the other voters, those that answer first."""
    answering = runtime.detector.answering(0.0)
    others = [
        m for m in runtime.records_view.view.voters_but(runtime.name) if m.name not in without
    ]
    return sorted(others, key=lambda m: (m.name not in answering, natural_key(m.name)))


def ask(runtime: MemberRuntime, path: str, message: Message, answer: type[M], seconds: float) -> M:
    """Ask the voters one after the other for something that may be asked twice.

    Args:
        runtime: this server.
        path, message: what is asked.
        answer: the kind of message that comes back.
        seconds: deadline for each.

    Raises:
        QuorumError: none of them answers.
        CollectiveError: what the last one said.
    """
    failure: CollectiveError | None = None
    for voter in candidates(runtime):
        peer = runtime.peers.client(voter)
        try:
            return answer.from_wire(peer.call("POST", path, message.to_wire(), seconds))
        except CollectiveError as error:
            log.debug("a voter did not do it: %s name=%s path=%s", error, voter.name, path)
            if failure is None or isinstance(failure, UnreachableError):
                failure = error
        finally:
            peer.close()
    raise failure or _nobody(runtime)


def run(
    runtime: MemberRuntime,
    command: str,
    arguments: Mapping[str, Any],
    emit: Emit,
    without: Collection[str],
) -> Any:
    """Have a voter carry a command out, and pass its steps on.

    Args:
        runtime: this server.
        command: its name.
        arguments: as it came over the control socket.
        emit: gets each step.
        without: voters that are not to be asked, such as the one that it is about.

    Raises:
        QuorumError: no voter can be reached.
        CollectiveError: what the voter answers.
    """
    for voter in candidates(runtime, without):
        peer = runtime.peers.client(voter)
        try:
            peer.open(_CONNECT_SECONDS)
        except UnreachableError as error:
            log.debug("a voter cannot be reached: %s name=%s", error, voter.name)
            continue
        try:
            # What has begun, the voter says in words of its own.
            with needs_quorum(runtime, f"have {voter.name} do that"):
                return run_at(peer, voter.name, command, arguments, emit)
        finally:
            peer.close()
    raise _nobody(runtime)


def run_at(
    peer: PeerClient, voter: str, command: str, arguments: Mapping[str, Any], emit: Emit
) -> Any:
    """Have one voter carry a command out, see ``run``."""
    body = SentCommand(command, arguments).to_wire()
    for raw in peer.stream("POST", COMMAND, body, _SILENCE_SECONDS, _SILENCE_SECONDS):
        if not raw.strip():
            continue
        line = _decoded(raw, voter)
        if "error" in line:
            raise from_wire(line["error"])
        if "result" in line:
            return line["result"]
        emit(str(line.get("step")), str(line.get("text")))
    raise UnreachableError(
        f"{voter} broke off in the middle of it", "what it began goes on; run the command again"
    )


def _decoded(raw: bytes, voter: str) -> dict[str, Any]:
    try:
        value = json.loads(raw)
    except ValueError:
        value = None
    if not isinstance(value, dict):
        raise ProtocolError(f"{voter} answered no JSON object")
    return value


def _nobody(runtime: MemberRuntime) -> CollectiveError:
    if runtime.records_view.view.voters.keys() <= {runtime.name}:
        return RefusedError(f"{runtime.name} knows no other server that votes")
    return QuorumError(
        "no other server that votes can be reached",
        "start the servers that 'collective show' lists as offline",
    )
