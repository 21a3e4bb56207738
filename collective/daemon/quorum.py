"""Say plainly that there is no quorum, where etcd says that it did not answer."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from collective.daemon.node import Node
from collective.errors import EtcdError, EtcdUnavailableError, QuorumError
from collective.policy.membership import Strength

_LOG_HINT = "see the log of collectived on this server"


@contextmanager
def needs_quorum(node: Node, doing: str) -> Iterator[None]:
    """Say plainly that there is no quorum, where etcd says that it did not answer.

    Raises:
        QuorumError: instead of any error of etcd.
    """
    try:
        yield
    except EtcdUnavailableError as error:
        if node.failure is not None:
            raise EtcdError(f"cannot {doing}: {node.failure}", _LOG_HINT) from error
        voters = node.replica.view.voters.keys()
        answering = node.prober.answering(0.0) | {node.name}
        strength = Strength(len(voters), len(voters & answering))
        if strength.holds:
            raise QuorumError(
                f"cannot {doing}: no quorum was proven in time ({error.message})",
                "a new leader may be being elected: try again",
            ) from error
        raise QuorumError(
            f"cannot {doing}: no quorum: {strength.answering} of {strength.voters} voters "
            f"answer, quorum is {strength.quorum} ({error.message})",
            "start the servers that 'collective show' lists as offline",
        ) from error
