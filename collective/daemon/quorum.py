"""How strong the collective is, as far as is known, and that there is no quorum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from collective.daemon.node import Node
from collective.errors import EtcdError, EtcdUnavailableError, QuorumError
from collective.policy.membership import Strength

_LOG_HINT = "see the log of collectived on this server"


def strength_known(node: Node) -> Strength:
    """Return the strength as it is known here, without asking anybody: for what is told."""
    voters = node.replica.view.voters.keys()
    answering = node.prober.answering(0.0) | {node.name}
    return Strength(len(voters), len(voters & answering))


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
        strength = strength_known(node)
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
