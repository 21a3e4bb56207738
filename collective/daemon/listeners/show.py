"""What ``collective show`` is told: everything this server knows, put together once.

It does not print; ``collective.cli.output`` does.

Invariants:
  * ``quorum`` is true only when an entry was committed for this very call (P8), see ``proving``.
  * With a quorum a voter is active only if it has what was committed after the call began.
  * Every member in the records is listed, with what it answered or why it did not.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, replace
from functools import partial
from typing import Any

from collective.daemon.clock import elapsed
from collective.daemon.listeners.alarms import alarm_sentence, alarms_in
from collective.daemon.listeners.proving import Proven, prove
from collective.daemon.listeners.shown import Shown
from collective.daemon.member.failure_detector import ANSWER_SECONDS, Answer, FailureDetector
from collective.daemon.member.recorded import is_broken, lacking
from collective.errors import CollectiveError
from collective.model.names import is_vacant, natural_key
from collective.model.plan import Mode, Plan
from collective.model.records import MemberRecord, Role
from collective.model.view import View
from collective.policy.membership import Strength, tolerance_sentence
from collective.policy.timing import slow_network_sentence
from collective.protocol.messages import ServerStatus
from collective.render import FORMAT

_RENEW_SECONDS = 0.1
_PROBE_SECONDS = 0.3
_LEAST_SECONDS = 0.02
#: The state of a member that answers, and does not have what was committed.
NOT_FOLLOWING = "not_following"
_NO_ADDRESS = "another member has its address now, and it has told no other one"
_State = tuple[str, ServerStatus | None, str]


def document(runtime: Shown) -> dict[str, Any]:
    """Return what this server knows of its collective, as the JSON of ``show --json``."""
    begun = elapsed()
    proof = prove(runtime)
    view, proven = proof.view, proof.proven is Proven.YES
    # After the read: the leader that made it possible is the one that status names.
    own = runtime.reporter.status()
    if proven and not own.healthy:
        own = runtime.reporter.status()
    answers = dict(_asked(runtime.detector, own.index if proven else None, begun))
    if proven and any(answer.takes_no_part for answer in answers.values()):
        # It may have been asked in the middle of an election that the proof has seen the end of.
        again = runtime.detector.answers(_RENEW_SECONDS, since=begun)
        answers |= {name: answer for name, answer in again.items() if answer.status is not None}
    follows = partial(runtime.detector.follows, index=own.index)
    states = {
        name: _state(record, own, answers.get(name), follows if proven else None)
        for name, record in view.members.items()
    }
    active = {name for name, state in states.items() if state[0] == "active"}
    leader = view.by_member_id(own.leader) if proven and own.leader else None
    voters = view.voters.keys()
    strength = Strength(len(voters), len(voters & active))
    restarting = _restarting(runtime, view, answers, proven)
    broken = None if proven else _own_etcd(runtime, own, strength, restarting)
    trips = runtime.detector.round_trips()
    alarms = alarms_in(own.errors, view)
    top = max([own.index, *(s.index for _, s, _ in states.values() if s is not None)])
    return {
        "format": FORMAT,
        "name": runtime.plan.name,
        "mode": runtime.plan.mode.value,
        # A server that was just born has written no record yet, and is not ready.
        "quorum": proven and bool(view.members),
        "proof": proof.proven.value,
        "leader": leader.name if leader is not None else None,
        "revision": view.revision,
        "members": [
            _member(view.members[name], *states[name], own.leader, top, trips.get(name, 0.0))
            for name in sorted(view.members, key=natural_key)
        ],
        "voters": strength.voters,
        "answering": strength.answering,
        "needed": strength.quorum,
        "spare": strength.spare,
        "tolerance": tolerance_sentence(strength),
        "etcd_failure": broken,
        "set_aside": list(runtime.plan.aside),
        "restarting": restarting,
        "joining": None,
        "election_ms": runtime.election_ms,
        "alarms": [{"member": name, "alarm": kind} for name, kind in alarms],
        "errors": [
            *(text for text in (broken or proof.error, runtime.reporter.trouble) if text),
            *(alarm_sentence(name, kind) for name, kind in alarms),
            *_reinstalled(answers),
            *_behind(states, own),
            *_left_out(view),
            *_restarts(restarting),
            *([] if restarting else _not_taken_up(view, active)),
            *_too_far(view, trips, runtime.election_ms),
        ],
    }


def _asked(detector: FailureDetector, index: int | None, begun: float) -> Mapping[str, Answer]:
    """Return what the others answer; with a quorum, each voter when it has an entry of now."""
    if index is not None:
        return detector.answers_at(index, begun, ANSWER_SECONDS)
    # Whoever was silent while the quorum was being proven has had its time.
    return detector.answers(max(_LEAST_SECONDS, begun + _PROBE_SECONDS - elapsed()))


def _own_etcd(
    runtime: Shown, own: ServerStatus, strength: Strength, restarting: Mapping[str, str] | None
) -> str | None:
    """Return why etcd on this server does not run or answer; None where others are to blame.

    One that starts without a quorum answers nobody, and whom it waits for is told otherwise.
    """
    if own.runs or runtime.etcd.waits_for:
        return None
    if runtime.etcd.failure is not None:
        return runtime.etcd.failure
    on_purpose = restarting is not None and restarting["name"] == own.name
    with_us = replace(strength, answering=strength.answering + 1)
    silent = runtime.plan.mode is Mode.MEMBER and with_us.holds and not on_purpose
    return "etcd on this server does not answer" if silent else None


def _behind(states: Mapping[str, _State], own: ServerStatus) -> list[str]:
    """Return a line for each member that answers, and whose log does not go on."""
    return [
        f"{name} answers, but does not follow: it has entry {status.applied} of the log, "
        f"{own.name} has {own.index}; is its disk well?"
        for name, (state, status, _) in states.items()
        if state == NOT_FOLLOWING and status is not None
    ]


def _left_out(view: View) -> list[str]:
    """Return a line for each member whose record, or certificate, is of no use to anybody."""
    told = dict(view.unreadable)
    told |= {n: "its certificate cannot be read" for n, m in view.members.items() if is_broken(m)}
    return [
        f"{name} is left out, and not let in: {told[name]}; delete and invite it again"
        for name in sorted(told, key=natural_key)
    ]


def _restarting(
    runtime: Shown, view: View, answers: Mapping[str, Answer], proven: bool
) -> dict[str, str] | None:
    """Return whose etcd is being restarted on purpose, and why.

    Without a quorum a turn is remembered for ever, of a server that is lost in it, too.
    """
    turn, here = view.turn, runtime.plan.name
    if turn is not None:
        holder = answers.get(turn.name)
        if proven or turn.name == here or (holder is not None and holder.status is not None):
            return asdict(turn)
    if not proven and runtime.etcd.failure is None and runtime.etcd.is_starting:
        return {"name": here, "doing": "it was started a moment ago"}
    return None


def _restarts(restarting: Mapping[str, str] | None) -> list[str]:
    if restarting is None:
        return []
    return [
        f"{restarting['name']} restarts its etcd ({restarting['doing']}); writes may wait a moment"
    ]


def _too_far(view: View, trips: Mapping[str, float], election_ms: int) -> list[str]:
    """Return a line for the farthest voter, where it is too far away for the settings."""
    far = max(view.voters.keys() & trips.keys(), key=lambda name: trips[name], default=None)
    told = far and slow_network_sentence(far, trips[far], election_ms)
    return [told] if told else []


def _not_taken_up(view: View, active: Collection[str]) -> list[str]:
    """Return a line for each voter that does not know another voter's certificate yet."""
    peers = [m for m in view.members.values() if m.is_peer and not is_broken(m)]
    wanted = [fingerprint for member in peers for fingerprint in member.fingerprints]
    return [
        f"etcd on {name} has not taken up the certificate of every voter yet"
        for name in lacking(view, active, wanted)
    ]


def idle(plan: Plan, why: CollectiveError) -> dict[str, Any]:
    """Return the document of a server that is a member of nothing, and why."""
    return {
        "format": FORMAT,
        "name": plan.name,
        "mode": plan.mode.value,
        "quorum": False,
        "proof": Proven.NO.value,
        "leader": None,
        "members": [],
        "idle": why.to_wire(),
        "former_data": plan.former_data,
        "etcd_failure": None,
        "restarting": None,
        "joining": None,
        "set_aside": list(plan.aside),
        "errors": [],
    }


def _reinstalled(answers: Mapping[str, Answer]) -> list[str]:
    """Return a line for each member in whose place another collective's server answers."""
    return [
        f"{name}: {answer.error}: was it reinstalled? then run 'collective invite --replace "
        f"{name}' here and 'collective join' there"
        for name, answer in answers.items()
        if answer.foreign
    ]


def _state(
    record: MemberRecord,
    own: ServerStatus,
    answer: Answer | None,
    follows: Callable[[Answer], bool] | None,
) -> _State:
    """Return state, status and error of a member.

    Without a quorum nobody has a leader, so a member whose etcd answers is active all the same;
    with one, a member that knows no leader is cut off from the others, and one that knows one
    must have what was committed.

    Args:
        record: of the member.
        own: what this server says of itself.
        answer: of the member.
        follows: tells whether who answered so has it; None without a quorum.
    """
    if record.name == own.name:
        # What was committed came by its own etcd, be that too busy to tell its status.
        if follows is not None and record.role is not Role.LEARNER:
            return "active", own, ""
        status, error = own, ""
    elif answer is None:
        return "offline", None, "not asked yet"
    elif answer.status is None:
        return "offline", None, answer.error
    else:
        status, error = answer.status, answer.error
    if record.role is Role.LEARNER:
        return "learner", status, error
    well = status.runs if follows is None else status.healthy
    if well and follows is not None and answer is not None and not follows(answer):
        return NOT_FOLLOWING, status, error
    return ("active" if well else "degraded"), status, error


def _member(
    record: MemberRecord,
    state: str,
    status: ServerStatus | None,
    error: str,
    leader: str,
    top: int,
    round_trip: float,
) -> dict[str, Any]:
    known = status is not None
    if not known and is_vacant(record.address):
        error = _NO_ADDRESS
    # Of a server that does not vote these would be the numbers of a voter.
    etcd = None if status is not None and status.nonvoting else status
    return {
        "name": record.name,
        "id": record.member_id,
        "role": record.role.value,
        "state": state,
        "leads": known and bool(leader) and record.member_id == leader,
        "address": None if is_vacant(record.address) else record.address,
        "door_port": record.door_port,
        "peer_port": record.peer_port,
        "raft_term": etcd.term if etcd else None,
        "raft_index": etcd.index if etcd else None,
        "raft_applied": etcd.applied if etcd else None,
        "raft_durable": etcd.durable_index if etcd else None,
        "lag": max(0, top - etcd.applied) if etcd else None,
        "round_trip_ms": round(round_trip * 1000, 3) or None,
        "release": status.release if status else None,
        "etcd_version": etcd.etcd_version if etcd else None,
        "database_bytes": etcd.db_size if etcd else None,
        "certificate_fingerprint": (status.certificate or None) if status else None,
        "errors": [*(status.errors if status else ()), *([error] if error else ())],
    }
