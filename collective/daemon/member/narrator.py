"""Tell in the log what happens in the collective, a line each, as this member sees it.

What is worth a line, ``policy.story`` says. It asks nobody but this server's own etcd.

Invariants:
  * How things stand, for ``systemctl status``, is what was looked at last.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping

from collective.daemon.clock import elapsed
from collective.daemon.member.failure_detector import Answer
from collective.daemon.member.recorded import certificates_of, lacking
from collective.daemon.member.runtime import MemberRuntime
from collective.daemon.member.worker import Worker
from collective.errors import CollectiveError
from collective.etcd.api import hex_id
from collective.model.view import View
from collective.policy.story import Condition, Heard, Scene, Story, standing
from collective.protocol.messages import ServerStatus

log = logging.getLogger(__name__)


class Narrator(Worker):
    """A thread that looks, and tells what is new."""

    name = "narrator"
    idle_seconds = eager_seconds = 1.0

    def __init__(self, runtime: MemberRuntime) -> None:
        super().__init__(runtime)
        self._story = Story()

    def _round(self) -> bool:
        scene = self._look()
        for line in self._story.go_on(scene, elapsed()):
            log.log(logging.WARNING if line.wrong else logging.INFO, "%s", line.text)
        self._runtime.reporter.note_standing(standing(scene))
        return False

    def _look(self) -> Scene:
        runtime = self._runtime
        view, answers = runtime.records_view.view, runtime.detector.last_answers()
        said = {name: answer.status for name, answer in answers.items()}
        leader = self._leader() if runtime.votes else told_leader(said)
        known = view.by_member_id(leader) if leader else None
        heard = {name: heard_of(answer, bool(leader)) for name, answer in answers.items()}
        well = {name for name, each in heard.items() if each.condition is Condition.WELL}
        return Scene(
            runtime.name,
            view.members,
            known.name if known is not None else leader,
            heard,
            runtime.etcd.failure is not None,
            view.turn,
            _not_taken_up(view, well | {runtime.name}),
        )

    def _leader(self) -> str:
        """Return the id of who leads, as etcd here says, "" for nobody."""
        try:
            leader = self._runtime.etcd.status().leader
        except CollectiveError:
            return ""
        return hex_id(leader) if leader else ""


def told_leader(said: Mapping[str, ServerStatus | None]) -> str:
    """Return the id of who leads, as the voter says that is furthest, "" for nobody.

    For a server that does not vote: it asks no voter for this.
    """
    led = [s for s in said.values() if s is not None and s.leader and not s.nonvoting]
    return max(led, key=lambda status: status.term).leader if led else ""


def heard_of(answer: Answer, led: bool) -> Heard:
    """Return how a member is, by its last answer.

    Without a leader no etcd takes part, and that is told once: there is no quorum.

    Args:
        answer: of the member.
        led: whether a leader is known here.
    """
    status = answer.status
    if status is None:
        return Heard(Condition.SILENT, answer.error)
    if status.healthy if led else status.runs:
        return Heard(Condition.WELL)
    return Heard(Condition.NO_PART, "; ".join(status.errors))


def _not_taken_up(view: View, answering: set[str]) -> tuple[str, ...]:
    peers = [member for member in view.members.values() if member.is_peer]
    return tuple(lacking(view, answering, certificates_of(peers, view.revoked).keys()))
