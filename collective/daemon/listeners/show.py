"""What ``collective show`` is told: everything this server knows, put together once.

It does not print; ``collective.cli.output`` does.

Invariants:
  * ``quorum`` is true only when a linearizable read was answered for this very call (P8).
  * Every member in the records is listed, with what it answered or why it did not.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import asdict, replace
from typing import Any

from collective.daemon.certificates.trust_round import lacking
from collective.daemon.clock import elapsed
from collective.daemon.listeners.alarms import alarm_sentence, alarms_in
from collective.daemon.member.failure_detector import Answer
from collective.daemon.member.recorded import is_broken
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import CollectiveError, EtcdError
from collective.model.names import natural_key
from collective.model.plan import Mode, Plan
from collective.model.records import MemberRecord, Role
from collective.model.view import View
from collective.policy.membership import Strength, tolerance_sentence
from collective.protocol.messages import ServerStatus

FORMAT = 1
# With every other server dead the command must answer in half a second, start-up included.
_READ_SECONDS = 0.25
_RENEW_SECONDS = 0.1
_PATIENT_SECONDS = 2.0
_PROBE_SECONDS = 0.3
_LEAST_SECONDS = 0.02


def document(runtime: MemberRuntime) -> dict[str, Any]:
    """Return what this server knows of its collective, as the JSON of ``show --json``."""
    begun = elapsed()
    view, proven, error = _prove(runtime)
    # After the read: the leader that made it possible is the one that status names.
    own = runtime.own_status()
    # Whoever was silent while the quorum was being proven has had its time.
    answers = dict(
        runtime.detector.answers(max(_LEAST_SECONDS, begun + _PROBE_SECONDS - elapsed()))
    )
    if proven and any(answer.takes_no_part for answer in answers.values()):
        # It may have been asked in the middle of an election that the proof has seen the end of.
        again = runtime.detector.answers(_RENEW_SECONDS, since=begun)
        answers |= {name: answer for name, answer in again.items() if answer.status is not None}
    states = {
        name: _state(record, own, answers.get(name), proven)
        for name, record in view.members.items()
    }
    active = {name for name, state in states.items() if state[0] == "active"}
    leader = view.by_member_id(own.leader) if proven and own.leader else None
    voters = view.voters.keys()
    strength = Strength(len(voters), len(voters & active))
    broken = _own_etcd(runtime, own, strength)
    alarms = alarms_in(own.errors, view)
    top = max([own.index, *(s.index for _, s, _ in states.values() if s is not None)])
    return {
        "format": FORMAT,
        "name": runtime.name,
        "mode": runtime.plan.mode.value,
        "quorum": proven and leader is not None,
        "leader": leader.name if proven and leader is not None else None,
        "revision": view.revision,
        "members": [
            _member(view.members[name], *states[name], own.leader, top)
            for name in sorted(view.members, key=natural_key)
        ],
        "voters": strength.voters,
        "answering": strength.answering,
        "needed": strength.quorum,
        "spare": strength.spare,
        "tolerance": tolerance_sentence(strength),
        "etcd_failure": broken,
        "set_aside": list(runtime.plan.aside),
        "restarting": None if view.turn is None else asdict(view.turn),
        "alarms": [{"member": name, "alarm": kind} for name, kind in alarms],
        "errors": [
            *(text for text in (broken or error, runtime.trouble) if text),
            *(alarm_sentence(name, kind) for name, kind in alarms),
            *_reinstalled(answers),
            *_left_out(view),
            *_not_taken_up(view, active),
        ],
    }


def _own_etcd(runtime: MemberRuntime, own: ServerStatus, strength: Strength) -> str | None:
    """Return why etcd on this server does not run or answer; None where others are to blame.

    One that starts without a quorum answers nobody, and whom it waits for is told otherwise.
    """
    if own.runs or runtime.waits_for:
        return None
    if runtime.failure is not None:
        return runtime.failure
    with_us = replace(strength, answering=strength.answering + 1)
    silent = runtime.plan.mode is Mode.MEMBER and with_us.holds
    return "etcd on this server does not answer" if silent else None


def _left_out(view: View) -> list[str]:
    """Return a line for each member whose record, or certificate, is of no use to anybody."""
    told = dict(view.unreadable)
    told |= {n: "its certificate cannot be read" for n, m in view.members.items() if is_broken(m)}
    return [
        f"{name} is left out, and not let in: {told[name]}; delete and invite it again"
        for name in sorted(told, key=natural_key)
    ]


def _not_taken_up(view: View, active: Collection[str]) -> list[str]:
    """Return a line for each voter that does not know another voter's certificate yet."""
    if view.turn is not None:
        return [
            f"{view.turn.name} restarts its etcd ({view.turn.doing}); writes may wait a moment"
        ]
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
        "leader": None,
        "members": [],
        "idle": why.to_wire(),
        "former_data": plan.former_data,
        "etcd_failure": None,
        "restarting": None,
        "set_aside": list(plan.aside),
        "errors": [],
    }


def _prove(runtime: MemberRuntime) -> tuple[View, bool, str]:
    """Read linearizably; without an answer, take what is held here."""
    error = ""
    deadline = elapsed() + _PATIENT_SECONDS
    while True:
        try:
            return runtime.store.read(_READ_SECONDS), True, ""
        except EtcdError as refused:
            error = refused.message
        if elapsed() > deadline or runtime.failure is not None:
            break
        # An etcd that is restarted on purpose is back in a moment, and others need it so long.
        if _held(runtime).turn is None and not _enough_answer(runtime):
            break
    return _held(runtime), False, runtime.failure or error


def _enough_answer(runtime: MemberRuntime) -> bool:
    """Tell whether it is worth waiting: enough voters, asked anew, answer to elect a leader."""
    voters = runtime.records_view.view.voters.keys()
    found = runtime.detector.answers(_RENEW_SECONDS, since=elapsed())
    running = {n for n, a in found.items() if a.status is not None and a.status.member_id}
    answering = running | {runtime.name}
    return Strength(len(voters), len(voters & answering)).holds


def _reinstalled(answers: Mapping[str, Answer]) -> list[str]:
    """Return a line for each member in whose place another collective's server answers."""
    return [
        f"{name}: {answer.error}: was it reinstalled? then run 'collective invite --replace "
        f"{name}' here and 'collective join' there"
        for name, answer in answers.items()
        if answer.foreign
    ]


def _held(runtime: MemberRuntime) -> View:
    view = runtime.records_view.view
    if view.revision:
        return view
    try:
        return runtime.store.read_local(_READ_SECONDS)
    except EtcdError:
        return view


def _state(
    record: MemberRecord, own: ServerStatus, answer: Answer | None, proven: bool
) -> tuple[str, ServerStatus | None, str]:
    """Return state, status and error of a member.

    Without a quorum nobody has a leader, so a member whose etcd answers is active all the same;
    with one, a member that knows no leader is cut off from the others.
    """
    if record.name == own.name:
        status, error = own, ""
    elif answer is None:
        return "offline", None, "not asked yet"
    elif answer.status is None:
        return "offline", None, answer.error
    else:
        status, error = answer.status, answer.error
    if record.role is Role.LEARNER:
        return "learner", status, error
    well = status.healthy if proven else status.runs
    return ("active" if well else "degraded"), status, error


def _member(
    record: MemberRecord,
    state: str,
    status: ServerStatus | None,
    error: str,
    leader: str,
    top: int,
) -> dict[str, Any]:
    known = status is not None
    # Of a server that does not vote these would be the numbers of a voter.
    etcd = None if status is not None and status.nonvoting else status
    return {
        "name": record.name,
        "id": record.member_id,
        "role": record.role.value,
        "state": state,
        "leads": known and bool(leader) and record.member_id == leader,
        "address": record.address,
        "door_port": record.door_port,
        "peer_port": record.peer_port,
        "raft_term": etcd.term if etcd else None,
        "raft_index": etcd.index if etcd else None,
        "raft_applied": etcd.applied if etcd else None,
        "raft_durable": etcd.durable_index if etcd else None,
        "lag": max(0, top - etcd.applied) if etcd else None,
        "release": status.release if status else None,
        "etcd_version": etcd.etcd_version if etcd else None,
        "database_bytes": etcd.db_size if etcd else None,
        "certificate_fingerprint": (status.certificate or None) if status else None,
        "errors": [*(status.errors if status else ()), *([error] if error else ())],
    }
