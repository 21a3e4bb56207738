"""What one life of a server does with records that it hears of."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from cryptography import x509

from collective.daemon.member import credentials, etcd_trust
from collective.daemon.member.credentials import Credentials
from collective.daemon.member.etcd_trust import EtcdTrust
from collective.daemon.member.runtime import MemberRuntime
from collective.errors import CollectiveError
from collective.model.records import Revocation, Role
from collective.model.view import View
from tests.unit.identities import identity, record_of, view_of

VOTERS = tuple(record_of(f"mgt{n}") for n in (1, 2, 3))
NONVOTING = record_of("mgt4", Role.NONVOTING)
BEFORE = view_of(*VOTERS, NONVOTING)
AFTER = view_of(
    *VOTERS[:2],
    *(Revocation(identity(name).fingerprint, name, 1.0) for name in ("mgt3", "mgt4")),
    revision=7,
)


@pytest.fixture
def runtime(tmp_path: Path) -> Any:
    """The part of a runtime that follows trust, with real files, of a voter whose etcd runs."""
    path = tmp_path / "pki"
    credentials.prepare_fresh(path, "mgt1", [])
    credentials.install(path)
    held = Credentials(path)
    made = SimpleNamespace(
        credentials=held,
        etcd_trust=EtcdTrust(held),
        votes=True,
        _etcd_wanted=True,
        _trusting=threading.RLock(),
        _trusted_view=BEFORE,
        _detours={},
        _cutting=threading.Condition(),
        _cut=frozenset(),
    )
    for name in ("wanted_peers", "_trust", "to_cut", "has_cut", "let_in_by_detour"):
        setattr(made, name, getattr(MemberRuntime, name).__get__(made))
    made._trust(BEFORE)
    made.etcd_trust.write(made.wanted_peers())
    return made


def opens(runtime: Any, name: str) -> tuple[bool, bool]:
    """Return whether a certificate opens the daemon's door, and etcd's."""
    one = identity(name)
    crl = x509.load_der_x509_crl(runtime.etcd_trust.crl_file.read_bytes())
    listed = crl.get_revoked_certificate_by_serial_number(int(one.certificate.serial, 16))
    trusted = one.pem in runtime.etcd_trust.trust_file.read_text()
    return runtime.credentials.trusts(one.fingerprint), trusted and listed is None


def test_members_open_both_doors_and_who_does_not_vote_the_daemons_alone(runtime: Any) -> None:
    """A server without a vote is never in the trust file of an etcd."""
    assert [opens(runtime, f"mgt{n}") for n in (1, 2, 3)] == [(True, True)] * 3
    assert opens(runtime, "mgt4") == (True, False)
    assert opens(runtime, "mgt9") == (False, False)


def test_deleted_server_is_refused_at_both_doors_with_the_view_that_says_so(runtime: Any) -> None:
    """Whoever acts on that view finds that it holds; nothing else is waited for."""
    runtime._trust(AFTER)
    assert opens(runtime, "mgt3") == opens(runtime, "mgt4") == (False, False)
    assert opens(runtime, "mgt2") == (True, True)
    assert runtime.to_cut() == {identity("mgt3").fingerprint}
    runtime.has_cut(frozenset({identity("mgt3").fingerprint}))
    assert runtime.to_cut() == frozenset()


def test_deleted_server_without_a_vote_has_nothing_open_to_etcd(runtime: Any) -> None:
    """So nothing is to be cut for it."""
    gone = Revocation(identity("mgt4").fingerprint, "mgt4", 1.0)
    runtime._trust(view_of(*VOTERS, gone, revision=7))
    assert opens(runtime, "mgt4") == (False, False)
    assert runtime.to_cut() == frozenset()


def test_view_is_not_taken_where_the_list_cannot_be_written(
    runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: a member must not say that it refuses whom its etcd still lets in."""

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(etcd_trust, "write_atomically", full)
        with pytest.raises(OSError, match="No space"):
            runtime._trust(AFTER)
    assert opens(runtime, "mgt3") == (False, True), "it is said to be refused nowhere yet"
    runtime._trust(AFTER)
    assert opens(runtime, "mgt3") == (False, False)


def test_demoted_server_is_put_out_of_etcd_alone(runtime: Any) -> None:
    """It is a member still, and certificates of a member are not revoked."""
    demoted = record_of("mgt3", Role.NONVOTING)
    runtime._trust(view_of(*VOTERS[:2], demoted, revision=7))
    assert opens(runtime, "mgt3") == (True, False)
    runtime._trust(view_of(*VOTERS, revision=8))
    assert opens(runtime, "mgt3") == (True, True)


def test_member_whose_record_cannot_be_read_fails_nobody_else(runtime: Any) -> None:
    """It is left out, at both doors."""
    broken = replace(record_of("mgt3"), certificates=("\ud800",))
    runtime._trust(view_of(*VOTERS[:2], broken, revision=7))
    assert opens(runtime, "mgt3") == (False, False)
    assert opens(runtime, "mgt2") == (True, True)


def test_own_certificate_is_let_in_whatever_the_records_say(runtime: Any) -> None:
    """Etcd's gateway dials its own server."""
    runtime._trust(View(9))
    assert list(runtime.wanted_peers()) == [runtime.credentials.identity.fingerprint]


def test_detour_lets_in_voters_alone(runtime: Any) -> None:
    """What a deleted server has shown once does not count when it is none any more."""
    new = {f"mgt{n}": identity(f"mgt{n}", number=7) for n in (2, 3, 4)}
    runtime.let_in_by_detour({one.fingerprint: one.certificate for one in new.values()})
    assert {c.name for c in runtime.wanted_peers().values()} == {"mgt1", "mgt2", "mgt3"}
    assert new["mgt3"].fingerprint in runtime.wanted_peers()
    runtime._trust(AFTER)
    assert {c.name for c in runtime.wanted_peers().values()} == {"mgt1", "mgt2"}
    assert new["mgt2"].fingerprint in runtime.wanted_peers()


def test_etcd_whose_files_cannot_be_written_says_so_and_starts_when_they_can(
    runtime: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk once left a server without an etcd, and without a word, for good."""
    started, tries = threading.Event(), iter([True, True, False])

    def write(*_: object) -> None:
        if next(tries):
            raise CollectiveError("cannot write trusted.pem: no space left on device")

    monkeypatch.setattr(runtime.etcd_trust, "write", write)
    monkeypatch.setattr("collective.daemon.member.runtime._START_AGAIN_SECONDS", 0.01)
    vars(runtime).update(
        name="mgt1",
        plan=None,
        _hindered="",
        _starting=threading.RLock(),
        _stopping=threading.Event(),
        _backend=SimpleNamespace(start=lambda *_: started.set(), failure=None),
    )
    for name in ("_start_in_the_end", "_start_backend", "_start_backend_again"):
        setattr(runtime, name, getattr(MemberRuntime, name).__get__(runtime))
    with pytest.raises(CollectiveError, match="no space"):
        runtime._start_backend_again()
    assert runtime._hindered.endswith("cannot write trusted.pem: no space left on device")
    assert started.wait(10.0)
    assert runtime._hindered == ""
