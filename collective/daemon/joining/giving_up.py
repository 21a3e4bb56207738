"""Give a join up: ``collective join --abort``, on the server that joins.

It waits for nobody: ``coordinator`` has ended the join, and keeps others off, when this is called.
The member's side is ``learner.evict``.

    how far the join is        what is done
    before ``adopt``           nothing: this server is what it was
    a learner (JOINING)        a member removes the learner, then this server rests
    a voter                    refused: ``collective delete`` takes a member out

Invariants:
  * A voter never gives up: its vote would be lost without a decision (P1). Once etcd has run here
    the leader may have promoted it without its knowing, so then a member must have agreed, or
    somebody must say that the collective is lost (``force``).
  * Data is moved aside, never deleted (P7).
"""

from __future__ import annotations

import logging
from dataclasses import dataclass

from collective.daemon.clock import elapsed, utc_now
from collective.daemon.lifecycle import lives
from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import AccessError, CollectiveError, RefusedError, RemovedError
from collective.failpoints import Step, reached
from collective.model.plan import Mode, Plan
from collective.model.records import MemberRecord
from collective.protocol.messages import GIVE_UP, GivenUp, Message
from collective.protocol.peer import where

log = logging.getLogger(__name__)

_CALL_SECONDS = 8.0
_ASK_SECONDS = 20.0


@dataclass(frozen=True)
class Given:
    """A join that was given up.

    Attributes:
        stage: ``begun`` or ``learner``: how far it was.
        told: the member that has removed the learner, "" for none.
        former_data: where the data of before the join is, "" where it was not moved.
        notes: for people.
    """

    stage: str
    told: str
    former_data: str
    notes: tuple[str, ...]


def give_up(server: CollectiveServer, force: bool, begun: bool) -> Given:
    """Give up the join that is under way or half done on this server.

    Args:
        server: this server.
        force: also if no member can be asked, and this server may be a voter.
        begun: whether a join was under way that has changed nothing yet.

    Raises:
        RefusedError: there is none, or this server is, or may be, a voter already.
    """
    if server.plan.mode is Mode.ADOPTING:
        with server.life:
            plan = lives.adopt(server.layout, server.state, server.plan, utc_now())
            server.save(plan)
    if server.plan.fallback is not None:
        raise RefusedError(
            f"no join is under way on {server.settings.name}: it is being promoted",
            "run 'collective demote' when it votes",
        )
    if server.plan.mode is Mode.JOINING:
        return _as_learner(server, force)
    name = server.settings.name
    if server.runtime is not None and len(server.runtime.records_view.view.members) > 1:
        raise _voter(name)
    if not begun:
        raise RefusedError(
            f"no join is under way on {name}",
            "one that was cut off before this server changed has changed nothing; see 'collective "
            "show'",
        )
    log.warning("the join was given up before anything was changed here")
    notes = (
        f"nothing had changed on {name} yet",
        "if the join had claimed its invitation, that is left to expire, and a learner that was "
        f"added for it is removed by the leader; 'collective invite {name}' on a member makes a "
        "new one",
    )
    return Given("begun", "", "", notes)


def _as_learner(server: CollectiveServer, force: bool) -> Given:
    """Have a member remove the learner that this server is, and come to rest."""
    name, runtime = server.settings.name, server.runtime
    if runtime is not None:
        _refuse_voter(runtime)
    told = _ask_somebody(server)
    if not told and server.plan.started and not force:
        raise RefusedError(
            f"cannot give up the join of {name}: no member answers, and it may have been made a "
            "voter already",
            "try again when a member answers; if the collective is lost for good, use --force",
        )
    reached(Step.ABORT_ASKED)
    server.give_up_life(f"{name} gave up its join")
    log.warning("the join was given up; the learner was removed by=%s", told or "nobody yet")
    before = former_data(server.plan)
    asked = (
        f"{told} has removed the learner {name}"
        if told
        else f"no member could be asked to remove the learner {name}: the leader removes it when "
        f"it has made no progress for {server.settings.learner_timeout:.0f} s"
    )
    kept = (f"the data of before the join is in {before}",) if before else ()
    rests = f"{name} rests: 'collective gencert' makes it a collective of one, with new data"
    return Given("learner", told, before, (asked, *kept, rests))


def former_data(plan: Plan) -> str:
    """Return where the etcd data of before the last join is, or ""."""
    places = (p for p in reversed(plan.aside) if p.endswith("/etcd") and "-before-join" in p)
    return next(places, "")


def _refuse_voter(runtime: MemberRuntime) -> None:
    if not runtime.votes:
        return
    try:
        status = runtime.etcd.status()
    except CollectiveError as error:
        log.debug("etcd does not say whether it is a learner: %s", error)
        return
    if status.member_id and not status.learner:
        raise _voter(runtime.name)


def _voter(name: str) -> RefusedError:
    return RefusedError(
        f"cannot give up the join of {name}: it is a member already",
        "run 'collective delete' here to leave the collective",
    )


def _ask_somebody(server: CollectiveServer) -> str:
    """Ask one member after the other; return who has done it, "" for nobody.

    Raises:
        RefusedError: a member says that this server is a voter.
    """
    deadline = elapsed() + _ASK_SECONDS
    runtime = server.runtime
    for member in _voters(server):
        seconds = min(_CALL_SECONDS, deadline - elapsed())
        if seconds <= 0 or runtime is None:
            break
        peer = runtime.peers.client(member)
        try:
            raw = peer.call("POST", GIVE_UP, Message().to_wire(), seconds)
            removed = GivenUp.from_wire(raw).removed
        except (AccessError, RemovedError):
            return member.name  # it knows no such learner any more
        except CollectiveError as error:
            log.info("a member did not remove this learner: %s name=%s", error, member.name)
            if runtime.peers.ask_as_stranger(member).deleted:
                return member.name
            continue
        finally:
            peer.close()
        if not removed:
            raise _voter(server.plan.name)
        return member.name
    return ""


def _voters(server: CollectiveServer) -> list[MemberRecord]:
    """Return whom to ask: the sponsor first, then the other voters that are known."""
    if server.runtime is None:
        return []
    known = [
        m for n, m in server.runtime.records_view.view.voters.items() if n != server.runtime.name
    ]
    sponsor = server.plan.sponsor
    return sorted(known, key=lambda m: where(m.address, m.door_port) != sponsor)
