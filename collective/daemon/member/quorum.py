"""How strong the collective is, as far as is known, and that there is no quorum."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from collective.daemon.clock import elapsed
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import (
    EtcdError,
    EtcdUnavailableError,
    PendingError,
    QuorumError,
    RefusedError,
)
from collective.policy.membership import Strength

_ASK_SECONDS = 1.0
_LOG_HINT = "mend that, or see the log here: journalctl -u collectived"
_WAITS_HINT = "start the servers that it waits for"


def strength_known(runtime: MemberRuntime) -> Strength:
    """Return the strength as it is known here, without asking anybody."""
    return strength_with(runtime, runtime.detector.answering(0.0))


def strength_with(runtime: MemberRuntime, answering: frozenset[str]) -> Strength:
    """Return the strength if these members answer, and this server."""
    voters = runtime.records_view.view.voters.keys()
    return Strength(len(voters), len(voters & (answering | {runtime.name})))


def answering_now(runtime: MemberRuntime) -> frozenset[str]:
    """Return who answers a question of now: what a change has done is told with these."""
    return runtime.detector.answering(_ASK_SECONDS, elapsed())


@contextmanager
def needs_quorum(runtime: MemberRuntime, doing: str) -> Iterator[None]:
    """Say plainly that there is no quorum, where etcd says that it did not answer.

    Raises:
        QuorumError: instead of any error of etcd.
    """
    try:
        yield
    except EtcdUnavailableError as error:
        if runtime.etcd.failure is not None:
            hint = _WAITS_HINT if runtime.etcd.waits_for else _LOG_HINT
            raise EtcdError(f"cannot {doing}: {runtime.etcd.failure}", hint) from error
        strength = strength_known(runtime)
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


@contextmanager
def may_have_begun(doing: str) -> Iterator[None]:
    """Say that a change may be written down, where etcd did not answer whether it is.

    Args:
        doing: such as "delete mgt2".

    Raises:
        PendingError: instead of etcd's error. What is written down is made, by whoever leads.
    """
    try:
        yield
    except EtcdUnavailableError as error:
        raise PendingError(
            f"it is not known whether this has begun: {doing} ({error.message})",
            "run the same command again, or see 'collective show': what has begun goes on",
        ) from error


@contextmanager
def has_begun(doing: str) -> Iterator[None]:
    """Say that a change goes on by itself, where it could not be brought to its end now.

    Args:
        doing: as above.

    Raises:
        PendingError: instead of any error of etcd.
    """
    try:
        yield
    except (EtcdError, RefusedError) as error:
        raise PendingError(
            f"this has begun and is not finished: {doing} ({error.message})",
            "whoever leads finishes it: see 'collective show', or run the same command again",
        ) from error
