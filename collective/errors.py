"""The one tree of errors, with the exit code that each of them gives to the commands.

It does not log and does not print: whoever is at the edge (the command line, a door of the
daemon) turns an error into lines, once.

    CollectiveError             1   anything else that failed
    |-- InputError              2   an argument, a name or a settings file is not valid
    |-- QuorumError             3   no quorum, or the change would take it away
    |   `-- DegradedCollective      no quorum now: nothing can be decided or written
    |-- RefusedError            4   a rule forbids the change; nothing was changed
    |-- DaemonError             5   collectived does not run here, or does not answer
    |-- RemovedError            6   this server was deleted from its collective
    |-- UnreachableError        7   another server does not resolve, answer or answer in time
    |   |-- IdentityError           another server answers than the one that is recorded
    |   `-- NoServiceError          it answers, and nobody there serves such calls
    |-- InvitationError         8   the token or its invitation is not good
    |-- EtcdError               9   etcd is missing, unsafe, does not start or answers an error
    |   `-- EtcdUnavailableError    it did not answer, or not in time
    |       `-- NotReachedError     nobody was there: nothing was asked
    |-- AccessError            10   no right to a socket, file or folder
    |-- ProtocolError          11   the other side speaks another, or a broken, protocol
    |-- PreflightError         12   several things are wrong at once; nothing was changed
    |-- LostError              13   the data of this server is gone, old, or another's
    |-- PendingError           14   it has begun, or may have: the same command goes on with it
    |-- OutputError            16   the result cannot be written to standard output
    `-- StoreError             15   a call of the embedding API failed, see collective.store
        |-- DeadlineError           its time was up before anything was sent
        |-- InDoubtError            it was sent and not answered: it may have happened. The doubt
        |                           about a write ends with settle()
        |-- ConflictError           what it was made on has changed meanwhile
        |-- LeaseExpiredError       the lease it leans on has ended
        |-- ClosedError             the handle was closed
        |-- NotReadyError           the handle has read nothing yet
        |-- HandlerError            what serves a call on another server raised an error
        `-- SlowReaderError         a watch was not read for too long, and has ended

Invariants:
  * The exit codes and the wire codes (``code``) of published classes never change.
  * A message is lower case, without a full stop, and says what failed, on what, and why.
  * No message holds a token or a key.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from typing import Any


class CollectiveError(Exception):
    """Something failed; the text says what, on what, expected and found.

    Attributes:
        message: what failed.
        hint: what to do about it, or None.
    """

    exit_code = 1
    code = "failed"

    def __init__(self, message: str, hint: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def to_wire(self) -> dict[str, Any]:
        """Return the error as the JSON object that crosses a socket."""
        wire: dict[str, Any] = {"code": self.code, "message": self.message}
        if self.hint is not None:
            wire["hint"] = self.hint
        return wire


class InputError(CollectiveError):
    """An argument, a name or a settings file is not valid."""

    exit_code = 2
    code = "input"


class QuorumError(CollectiveError):
    """There is no quorum, or the change would take it away."""

    exit_code = 3
    code = "quorum"


class DegradedCollective(QuorumError):  # the name that Confluent gives it
    """There is no quorum now, so that nothing can be decided or written."""

    code = "degraded"


class RefusedError(CollectiveError):
    """A rule forbids the change; nothing was changed."""

    exit_code = 4
    code = "refused"


class DaemonError(CollectiveError):
    """The daemon of this server does not run or does not answer."""

    exit_code = 5
    code = "daemon"


class RemovedError(CollectiveError):
    """This server was deleted from its collective."""

    exit_code = 6
    code = "removed"


class UnreachableError(CollectiveError):
    """Another server does not resolve, does not answer, or not in time."""

    exit_code = 7
    code = "unreachable"


class IdentityError(UnreachableError):
    """Another server answers at that place than the one that was asked for: nothing was sent."""

    code = "identity"


class NoServiceError(UnreachableError):
    """Another server answers, but nobody there serves such calls: nothing has happened."""

    code = "no-service"


class InvitationError(CollectiveError):
    """The token or its invitation is not good: garbled, expired, spent, revoked, or another's."""

    exit_code = 8
    code = "invitation"


class EtcdError(CollectiveError):
    """etcd is missing, unsafe, does not start, or answered with an error."""

    exit_code = 9
    code = "etcd"


class EtcdUnavailableError(EtcdError):
    """etcd did not answer, or not in time: what was asked may or may not have happened."""

    code = "etcd-unavailable"


class NotReachedError(EtcdUnavailableError):
    """There was nobody to ask: nothing was sent, so that nothing has happened."""

    code = "not-reached"


class AccessError(CollectiveError):
    """The right to a socket, file or folder is missing."""

    exit_code = 10
    code = "access"


class ProtocolError(CollectiveError):
    """The other side speaks a newer or a broken protocol."""

    exit_code = 11
    code = "protocol"


class PreflightError(CollectiveError):
    """Several things are wrong at once, found before anything was changed.

    Attributes:
        problems: each with the name of the check that found it.
    """

    exit_code = 12
    code = "preflight"

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        problems: Sequence[tuple[str, CollectiveError]] = (),
    ) -> None:
        super().__init__(message, hint)
        self.problems = tuple(problems)

    def to_wire(self) -> dict[str, Any]:
        """Return the error, and each problem, as the JSON object that crosses a socket."""
        problems = [{"check": check, **problem.to_wire()} for check, problem in self.problems]
        return {**super().to_wire(), "problems": problems}


class LostError(CollectiveError):
    """The data that this server had as a member is gone, older than it was, or another's."""

    exit_code = 13
    code = "lost"


class PendingError(CollectiveError):
    """A change has begun, or may have, and is not finished: the same command goes on with it."""

    exit_code = 14
    code = "pending"


class OutputError(CollectiveError):
    """The result of a command cannot be written to standard output."""

    exit_code = 16
    code = "output"


class StoreError(CollectiveError):
    """A call of the embedding API failed."""

    exit_code = 15
    code = "store"


class DeadlineError(StoreError):
    """The time of a call was up before anything was sent: nothing has happened."""

    code = "deadline"


class InDoubtError(StoreError):
    """A write or a call was sent, and no answer came: it may have happened, or may yet.

    The doubt about a write can be ended with ``settle``, in the process that made it.
    """

    code = "in-doubt"

    def __init__(
        self,
        message: str,
        hint: str | None = None,
        outcome: Callable[[float], Any] | None = None,
    ) -> None:
        """Fail.

        Args:
            message, hint: as for each error.
            outcome: waits so many seconds for what became of it; None where nobody can say.
        """
        super().__init__(message, hint)
        self.outcome = outcome

    def settle(self, seconds: float = 5.0) -> bool:
        """Return whether the write was made; from then on it never is, where it was not.

        Args:
            seconds: how long to wait for etcd to say so.

        Returns:
            Whether what was asked for was done. Where not, nothing was written, nor ever will be;
            but for ``txn``, whose ``otherwise`` may have been done: see ``Store.settle``.

        Raises:
            InDoubtError: etcd does not answer: ask again; or nobody can say, see the text.
        """
        if self.outcome is None:
            raise self
        outcome = self.outcome(seconds)
        return outcome is not None and bool(outcome.succeeded)


class ConflictError(StoreError):
    """What a write was made on has changed meanwhile; nothing was written."""

    code = "conflict"


class LeaseExpiredError(StoreError):
    """The lease that a key is to be bound to, or that a session leans on, has ended."""

    code = "lease-expired"


class ClosedError(StoreError):
    """The handle, watch or lease was closed."""

    code = "closed"


class NotReadyError(StoreError):
    """The handle has read nothing from the store yet."""

    code = "not-ready"


class HandlerError(StoreError):
    """What serves a call on another server raised an error.

    Attributes:
        error: what it raised, where that was one of ours, None for any other.
    """

    code = "handler"

    def __init__(
        self, message: str, hint: str | None = None, error: CollectiveError | None = None
    ) -> None:
        super().__init__(message, hint)
        self.error = error


class SlowReaderError(StoreError):
    """A watch was not read for so long that its events were dropped, and it with them."""

    code = "slow-reader"


_BY_CODE: dict[str, type[CollectiveError]] = {
    cls.code: cls
    for cls in (
        CollectiveError,
        InputError,
        QuorumError,
        RefusedError,
        DaemonError,
        RemovedError,
        UnreachableError,
        IdentityError,
        NoServiceError,
        InvitationError,
        EtcdError,
        EtcdUnavailableError,
        AccessError,
        ProtocolError,
        PreflightError,
        LostError,
        PendingError,
        DegradedCollective,
        NotReachedError,
        OutputError,
        StoreError,
        DeadlineError,
        InDoubtError,
        ConflictError,
        LeaseExpiredError,
        ClosedError,
        NotReadyError,
        HandlerError,
        SlowReaderError,
    )
}


def from_wire(wire: object) -> CollectiveError:
    """Rebuild an error that crossed a socket.

    Args:
        wire: the decoded JSON value; what is not understood gives a plain CollectiveError.
    """
    if not isinstance(wire, dict):
        return ProtocolError(f"an error without a form came back: {str(wire)[:80]!r}")
    cls = _BY_CODE.get(str(wire.get("code")), CollectiveError)
    hint = None if wire.get("hint") is None else str(wire["hint"])
    message = str(wire.get("message", "no message"))
    if cls is PreflightError:
        return PreflightError(message, hint, _problems(wire.get("problems")))
    return cls(message, hint)


def _problems(wire: object) -> list[tuple[str, CollectiveError]]:
    """Rebuild the problems of a preflight; one in another is none of ours."""
    found = [raw for raw in wire if isinstance(raw, dict)] if isinstance(wire, list) else []
    plain = [{**raw, "problems": None} for raw in found]
    return [(str(raw.get("check", "")), from_wire(raw)) for raw in plain]
