"""What ``show`` says of the etcd of the server that it is asked on."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from collective.daemon.listeners import show
from collective.daemon.member.failure_detector import Answer
from collective.errors import EtcdUnavailableError
from collective.model.plan import Mode
from collective.protocol.messages import ServerStatus
from tests.unit.identities import record_of, view_of

VIEW = view_of(*(record_of(f"mgt{n}") for n in (1, 2, 3)))
SILENT = "etcd on this server does not answer"


def status(name: str, member_id: str = "") -> ServerStatus:
    return ServerStatus(name, "", "", member_id, "", 0, 0, 0, 0, False, "", ())


def runtime(answering: int, failure: str | None = None, **changes: Any) -> Any:
    """A server whose etcd does not answer, in a collective of three of which some others do."""

    def refuse(*_: object) -> None:
        raise EtcdUnavailableError("etcd did not answer in time")

    others = [f"mgt{n}" for n in (2, 3)]
    answers = {name: Answer(None, "it is off", 0.0) for name in others}
    answers |= {name: Answer(status(name, "a"), "", 0.0) for name in others[:answering]}
    made = SimpleNamespace(
        name="mgt1",
        votes=True,
        failure=failure,
        waits_for="",
        trouble="",
        plan=SimpleNamespace(mode=Mode.MEMBER, aside=()),
        store=SimpleNamespace(read=refuse),
        records_view=SimpleNamespace(view=VIEW),
        detector=SimpleNamespace(answers=lambda *_, **__: answers),
        own_status=lambda: status("mgt1"),
    )
    vars(made).update(changes)
    return made


@pytest.mark.parametrize(
    ("made", "said"),
    [
        (runtime(2, "etcd ended with code 1"), "etcd ended with code 1"),
        (runtime(0, "etcd ended with code 1"), "etcd ended with code 1"),
        (runtime(1), SILENT),
        # One that starts answers nobody before there is a quorum: the others are to be started.
        (runtime(0), None),
        (runtime(2, "it waits for mgt2", waits_for="it waits for mgt2"), None),
        (runtime(2, plan=SimpleNamespace(mode=Mode.JOINING, aside=())), None),
        (runtime(2, own_status=lambda: status("mgt1", "a")), None),
    ],
)
def test_etcd_that_does_not_work_here_is_told_apart_from_others_that_are_off(
    made: Any, said: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever keeps it from starting, and also where nothing does and it hangs."""
    monkeypatch.setattr(show, "_PATIENT_SECONDS", 0.0)
    document = show.document(made)
    assert (document["quorum"], document["etcd_failure"]) == (False, said)
