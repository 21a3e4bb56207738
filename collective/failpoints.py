"""Named places at which a test can hold this server, or cut it off; a normal run passes them.

It kills nothing: the test at the other end of a socket does, while this server waits there.

Invariants:
  * Without COLLECTIVE_FAILPOINTS, or outside of COLLECTIVE_ROOT, ``reached`` does nothing at all.
  * Every step is reached in exactly one place of the code; the matrix of faults is made from
    ``Step``, so a step that is added is tested, and one that is not reached fails a test.
"""

from __future__ import annotations

import enum
import os
import socket

from collective.errors import UnreachableError
from collective.model.layout import ROOT_VARIABLE

VARIABLE = "COLLECTIVE_FAILPOINTS"
#: What a test answers: go on, or behave as if the connection broke here.
GO, DROP = "go", "drop"
_HOLD_SECONDS = 60.0


class Step(enum.Enum):
    """What has just been done when the place is reached, as operation.side.step."""

    JOIN_PREFLIGHT = "join.joiner.preflight"
    JOIN_DIAL = "join.joiner.dial"
    JOIN_PROVE = "join.joiner.prove"
    JOIN_CONFIRM = "join.joiner.confirm"
    JOIN_ADMITTED = "join.joiner.admitted"
    JOIN_ADOPTING = "join.joiner.adopting"
    JOIN_ADOPT = "join.joiner.adopt"
    JOIN_START = "join.joiner.start"
    JOIN_PROMOTE = "join.joiner.promote"
    JOIN_READY = "join.joiner.ready"
    JOIN_NONVOTING = "join.joiner.nonvoting"
    SPONSOR_CLAIM = "join.member.claim"
    SPONSOR_DIAL_BACK = "join.member.dial-back"
    SPONSOR_RECORD = "join.member.record"
    SPONSOR_TRUST = "join.member.trust"
    SPONSOR_ADD = "join.member.add"
    SPONSOR_RECORDED = "join.member.recorded"
    LEADER_PROMOTE = "join.leader.promote"
    LEADER_PROMOTED = "join.leader.promoted"
    DELETE_BEGIN = "delete.member.begin"
    DELETE_REMOVE = "delete.member.remove"
    DELETE_FINISH = "delete.member.finish"
    REMOVED_LEAVING = "delete.removed.leaving"
    REMOVED_ASIDE = "delete.removed.aside"
    LEAVE_ASKED = "leave.leaver.asked"
    ABORT_ASKED = "abort.joiner.asked"
    ABORT_EVICT = "abort.member.evict"
    ABORT_DROP = "abort.member.drop"
    SPONSOR_NONVOTING = "join.member.nonvoting"
    LEADER_ACCEPT = "join.leader.accept"
    DELETE_NONVOTING = "delete.member.nonvoting"
    PROMOTE_TARGET = "promote.member.target"
    PROMOTE_LEARNER = "promote.member.learner"
    PROMOTE_ASKED = "promote.server.asked"
    PROMOTE_JOINING = "promote.server.joining"
    PROMOTE_DONE = "promote.member.done"
    DEMOTE_BEGIN = "demote.member.begin"
    DEMOTE_TOLD = "demote.member.told"
    DEMOTE_REMOVE = "demote.member.remove"
    DEMOTE_FINISH = "demote.member.finish"
    DEMOTED_PLAN = "demote.server.plan"
    DEMOTED_ASIDE = "demote.server.aside"
    READDRESS_JOURNAL = "readdress.keeper.journal"
    READDRESS_GRANTED = "readdress.keeper.granted"
    READDRESS_RESTART = "readdress.keeper.restart"
    READDRESS_SAVED = "readdress.keeper.saved"
    READDRESS_RETIRED = "readdress.keeper.retired"
    READDRESS_DIAL_BACK = "readdress.member.dial-back"
    READDRESS_RECORD = "readdress.member.record"
    READDRESS_TRUST = "readdress.member.trust"
    READDRESS_UPDATE = "readdress.member.update"
    TRUST_RESTART = "trust.voter.restart"
    TRUST_DONE = "trust.voter.done"
    REPLACE_PREPARE = "gencert.server.prepare"
    REPLACE_RECORD = "gencert.server.record"
    REPLACE_TRUST = "gencert.server.trust"
    REPLACE_USE = "gencert.server.use"
    REPLACE_RETIRE = "gencert.server.retire"

    @property
    def operation(self) -> str:
        """What is being done, such as join."""
        return self.value.split(".")[0]

    @property
    def side(self) -> str:
        """Which server does it, such as joiner."""
        return self.value.split(".")[1]


def _place(environ: os._Environ[str]) -> str | None:
    return environ.get(VARIABLE) if ROOT_VARIABLE in environ else None


_SOCKET = _place(os.environ)


def obey(environ: os._Environ[str]) -> None:
    """Have the test of this environment hold the steps: in a process that was forked for it."""
    global _SOCKET
    _SOCKET = _place(environ)


def reached(step: Step) -> None:
    """Tell the test that a step is done, if there is a test, and wait for its answer.

    Raises:
        UnreachableError: the test wants the connection broken here.
    """
    if _SOCKET is None:
        return
    try:
        with socket.socket(socket.AF_UNIX) as test:
            test.settimeout(_HOLD_SECONDS)
            test.connect(_SOCKET)
            test.sendall(f"{os.getpid()} {step.value}\n".encode())
            answer = test.recv(64).decode("ascii", "replace").strip()
    except OSError:
        return
    if answer == DROP:
        raise UnreachableError(f"the connection broke after {step.value}: a test cut it")
