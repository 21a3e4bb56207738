"""Which certificate took the place of which: proven by keys, and by nothing else."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from collective.daemon.member.succession import Succession
from collective.errors import ProtocolError
from collective.protocol.messages import MOST_STEPS, Replaced
from tests.unit.identities import Identity, identity

CHAIN = tuple(identity("mgt1", number=n) for n in range(1, 6))
STRANGER = identity("mgt1", number=99)


def succession(held: tuple[Identity, ...]) -> Succession:
    """Return what a server has that showed these, one after the other."""
    made = Succession()
    for former, following in pairwise(held):
        made = made.followed_by(former.certificate, former.key, following.certificate)
    return made


WHOLE = succession(CHAIN)


@pytest.mark.parametrize("recorded", range(len(CHAIN) + 1))
@pytest.mark.parametrize("shown", range(len(CHAIN)))
def test_certificate_is_known_by_any_that_came_before_it(recorded: int, shown: int) -> None:
    """Over however many changes a server was off for; never by one that came after."""
    held = (*CHAIN, STRANGER)
    until = succession(CHAIN[: shown + 1])
    proven = until.proves("mgt1", {held[recorded].fingerprint}, held[shown].fingerprint)
    assert proven is (recorded < shown)


@pytest.mark.parametrize("shown", range(1, len(CHAIN)))
def test_certificate_that_was_replaced_since_is_still_proven(shown: int) -> None:
    """Its owner may show it a moment longer than it says: it is recorded until it is retired."""
    assert WHOLE.proves("mgt1", {CHAIN[0].fingerprint}, CHAIN[shown].fingerprint)


def test_nothing_is_proven_without_something_recorded() -> None:
    """Nor by a fingerprint that is nobody's."""
    last = CHAIN[-1].fingerprint
    for recorded in ((), ("",), (STRANGER.fingerprint,), (last,)):
        assert not WHOLE.proves("mgt1", set(recorded), last)
    assert not Succession().proves("mgt1", {last}, last)
    for shown in ("", STRANGER.fingerprint):
        assert not WHOLE.proves("mgt1", {CHAIN[0].fingerprint}, shown)


def test_succession_of_one_name_is_none_of_another() -> None:
    """The name is signed, too."""
    assert not WHOLE.proves("mgt2", {CHAIN[0].fingerprint}, CHAIN[-1].fingerprint)


def with_step(number: int, **changes: Any) -> Succession:
    steps = list(WHOLE.steps)
    steps[number] = replace(steps[number], **changes)
    return Succession(tuple(steps))


FORGED = {
    "signed by another key": with_step(
        1,
        signature=Succession()
        .followed_by(CHAIN[1].certificate, STRANGER.key, CHAIN[2].certificate)
        .steps[0]
        .signature,
    ),
    "the signature of another step": with_step(1, signature=WHOLE.steps[0].signature),
    "no signature": with_step(1, signature=""),
    "another certificate": with_step(1, certificate=STRANGER.pem),
    "no certificate": with_step(1, certificate="?"),
    "a step missing": Succession((*WHOLE.steps[:1], *WHOLE.steps[2:])),
    "in another order": Succession(tuple(reversed(WHOLE.steps))),
}


@pytest.mark.parametrize("forged", FORGED.values(), ids=FORGED)
def test_step_that_is_not_signed_by_its_predecessor_proves_nothing(forged: Succession) -> None:
    """Who does not have a former key cannot take a server's place."""
    assert not forged.proves("mgt1", {CHAIN[0].fingerprint}, CHAIN[-1].fingerprint)


def test_step_after_a_forged_one_is_known_by_a_later_record() -> None:
    """What is recorded is enough from there on, whatever is said of the time before."""
    forged = FORGED["no signature"]
    assert forged.proves("mgt1", {CHAIN[2].fingerprint}, CHAIN[-1].fingerprint)


def test_deleted_server_that_names_a_strangers_certificate_proves_it_for_its_own_name() -> None:
    """That is all that it says: who is a member is asked elsewhere."""
    handed = Succession().followed_by(CHAIN[0].certificate, CHAIN[0].key, STRANGER.certificate)
    assert handed.proves("mgt1", {CHAIN[0].fingerprint}, STRANGER.fingerprint)
    assert not handed.proves("mgt1", {CHAIN[1].fingerprint}, STRANGER.fingerprint)


def test_step_that_is_noted_again_is_not_doubled() -> None:
    """A change that was cut after it was signed is signed again."""
    again = WHOLE.followed_by(CHAIN[3].certificate, CHAIN[3].key, CHAIN[4].certificate)
    assert len(again.steps) == len(WHOLE.steps)
    assert again.proves("mgt1", {CHAIN[0].fingerprint}, CHAIN[4].fingerprint)


def test_oldest_steps_go_when_they_are_too_many() -> None:
    """A server that was off for more changes must be invited again."""
    step = WHOLE.steps[0]
    full = Succession(tuple(replace(step, certificate=f"{n}") for n in range(MOST_STEPS)))
    more = full.followed_by(CHAIN[0].certificate, CHAIN[0].key, CHAIN[1].certificate)
    assert len(more.steps) == MOST_STEPS
    assert more.steps[:-1] == full.steps[1:]
    assert more.proves("mgt1", {CHAIN[0].fingerprint}, CHAIN[1].fingerprint)
    assert Succession.from_wire(more_on_the_wire(WHOLE)).proves(
        "mgt1", {CHAIN[0].fingerprint}, CHAIN[4].fingerprint
    )


def more_on_the_wire(found: Succession) -> Any:
    return json.loads(json.dumps({**found.to_wire(), "new_field": 1}))


def test_succession_comes_back_from_the_disk_and_from_the_wire(tmp_path: Path) -> None:
    """Whole, and what a later release adds is passed over."""
    path = tmp_path / "succession.json"
    WHOLE.save(path)
    assert Succession.load(path) == WHOLE
    assert Succession.from_wire(more_on_the_wire(WHOLE)) == WHOLE


@pytest.mark.parametrize(
    "content", [None, b"", b"{", b"null", b'{"format": 2, "steps": []}', b'{"format": 1}', b"\xff"]
)
def test_broken_file_proves_nothing_and_is_no_error(tmp_path: Path, content: bytes | None) -> None:
    """A server must not fail to start for it."""
    path = tmp_path / "succession.json"
    if content is not None:
        path.touch(0o600)
        path.write_bytes(content)
    assert Succession.load(path) == Succession()


GOOD = {"certificate": "PEM", "signature": "00"}


@pytest.mark.parametrize(
    "raw",
    [
        None,
        [],
        {},
        {"format": 1},
        {"format": 2, "steps": []},
        {"format": 1, "steps": {}},
        {"format": 1, "steps": [GOOD] * (MOST_STEPS + 1)},
        {"format": 1, "steps": [1]},
        {"format": 1, "steps": [{}]},
        {"format": 1, "steps": [{**GOOD, "signature": "zz"}]},
        {"format": 1, "steps": [{**GOOD, "signature": "00" * 200}]},
        {"format": 1, "steps": [{**GOOD, "certificate": "x" * 5000}]},
        {"format": 1, "steps": [{**GOOD, "certificate": "\ud800"}]},
    ],
)
def test_broken_message_is_refused(raw: Any) -> None:
    """Anybody at that address can send it."""
    with pytest.raises(ProtocolError):
        Succession.from_wire(raw)


def test_nonsense_of_the_right_form_proves_nothing() -> None:
    """Neither raises it."""
    odd = Succession((Replaced("-----BEGIN CERTIFICATE-----", "00"), Replaced("é", "")))
    assert not odd.proves("mgt1", {CHAIN[0].fingerprint, ""}, CHAIN[1].fingerprint)
