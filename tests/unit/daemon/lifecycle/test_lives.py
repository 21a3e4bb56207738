"""The steps between two lives of a server, on a real file system."""

from __future__ import annotations

import shutil
from contextlib import suppress
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collective.daemon.lifecycle import lives
from collective.daemon.lifecycle.state_file import StateFile
from collective.daemon.member import credentials
from collective.daemon.member.credentials import Credentials
from collective.daemon.settings import Settings, parse_settings
from collective.errors import RefusedError
from collective.model.layout import Layout
from collective.model.plan import Mode, Plan
from tests.unit.cuts import Killed, killed_at

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
LATER = datetime(2026, 3, 2, 12, 0, tzinfo=timezone.utc)
SETTINGS = parse_settings("name = mgt1\naddress = 127.0.0.2\n")


def settings(**changes: Any) -> Settings:
    return replace(SETTINGS, **changes)


@pytest.fixture
def layout(tmp_path: Path) -> Layout:
    """The folders of a server."""
    made = Layout(str(tmp_path / "conf"), str(tmp_path / "var"), str(tmp_path / "run"))
    Path(made.data).mkdir()
    return made


@pytest.fixture
def state(layout: Layout) -> StateFile:
    """Its state folder."""
    return StateFile(Path(layout.state))


def write_etcd(layout: Layout, content: str) -> None:
    member = Path(layout.etcd_data, "member")
    member.mkdir(parents=True)
    (member / "wal").write_text(content)


def everything(layout: Layout) -> dict[str, bytes]:
    """Return every file below the data folder but the state file, by its path."""
    root = Path(layout.data)
    return {
        str(p.relative_to(root)): p.read_bytes()
        for p in root.rglob("*")
        if p.is_file() and "state" not in p.parts
    }


@pytest.mark.parametrize(
    ("listen", "address", "own", "expected"),
    [
        (("10.0.0.1", "10.1.0.1"), None, "10.0.0.1", ("10.0.0.1", "10.1.0.1")),
        (("0.0.0.0",), "mgt1", "10.0.0.1", ("0.0.0.0",)),
        (None, "mgt1", "10.0.0.1", ("10.0.0.1",)),
        (None, None, "10.0.0.1", ("0.0.0.0",)),
        (None, None, "fd00::1", ("::",)),
    ],
)
def test_doors_listen_where_the_settings_say(
    listen: tuple[str, ...] | None, address: str | None, own: str, expected: tuple[str, ...]
) -> None:
    """As set, or on the one address that was set as ours, or on all of its family."""
    assert lives.listen_addresses(settings(listen=listen, address=address), own) == expected


@pytest.mark.parametrize(
    ("moving_to", "setting", "begun"),
    [
        ("127.0.0.3", None, "127.0.0.3"),
        ("127.0.0.3", "127.0.0.3", "127.0.0.3"),
        ("127.0.0.3", "127.0.0.4", ""),
        ("192.0.2.77", None, ""),
        ("", "127.0.0.4", ""),
    ],
    ids=["begun", "set", "set to another", "gone again", "none"],
)
def test_change_to_an_address_that_is_gone_again_is_given_up(
    moving_to: str, setting: str | None, begun: str
) -> None:
    """A server that had got a third address tried for ever to have the second one."""
    plan: Any = SimpleNamespace(moving_to=moving_to)
    assert lives.begun_address(settings(address=setting), plan) == begun


def test_own_address_is_that_of_the_settings(tmp_path: Path) -> None:
    """An address as it is, a name by the hosts file, none where none is set."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.0.7 elsewhere MGT1.example.org\n")
    assert lives.own_address(SETTINGS) == "127.0.0.2"
    assert lives.own_address(settings(address=None)) is None
    named = settings(address="mgt1.example.org", hosts=hosts)
    assert lives.own_address(named) == "127.0.0.7"


def test_own_name_beside_loopback_says_nothing(tmp_path: Path) -> None:
    """That line of Debian's is on each host, and nobody else would find it there."""
    hosts = tmp_path / "hosts"
    hosts.write_text("127.0.1.1 mgt1.example.org mgt1\n")
    assert lives.own_address(settings(address="mgt1", hosts=hosts)) is None
    assert lives.own_address(settings(address="127.0.1.1")) == "127.0.1.1"


def test_fresh_server_becomes_a_collective_of_one(layout: Layout, state: StateFile) -> None:
    """Certificate and plan fit each other, and the plan is saved."""
    plan = lives.begin_alone(layout, state, SETTINGS, NOW)
    assert plan == state.load()
    assert (plan.mode, plan.existing, plan.started, plan.aside) == (Mode.MEMBER, False, False, ())
    assert plan.initial_cluster == "mgt1=https://127.0.0.2:13003"
    made = Credentials(Path(layout.pki))
    assert made.identity.name == "mgt1"
    assert "127.0.0.2" in made.identity.addresses


def test_two_collectives_of_one_are_strangers(tmp_path: Path) -> None:
    """Same name, same address: another key and another cluster token all the same."""
    plans, keys = [], []
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        layout = Layout("", str(tmp_path / name), "")
        plans.append(lives.begin_alone(layout, StateFile(Path(layout.state)), SETTINGS, NOW))
        keys.append(Credentials(Path(layout.pki)).key_pem)
    assert plans[0].cluster_token != plans[1].cluster_token
    assert keys[0] != keys[1]


def test_data_of_nobody_is_moved_aside(layout: Layout, state: StateFile) -> None:
    """What is there without a state file is kept, and the plan says where (P7)."""
    write_etcd(layout, "precious")
    Path(layout.pki).mkdir()
    Path(layout.pki, "server.pem").write_text("precious too")
    plan = lives.begin_alone(layout, state, SETTINGS, NOW)
    pki, etcd = sorted(map(Path, plan.aside), key=lambda place: place.name != "pki")
    assert (etcd / "member/wal").read_text() == "precious"
    assert (pki / "server.pem").read_text() == "precious too"
    assert not Path(layout.etcd_data).exists()
    assert plan.former_data == str(etcd)


def prepared(layout: Layout, state: StateFile) -> Plan:
    """Bring a server to where its join adopts: old data there, and a certificate to keep."""
    alone = lives.begin_alone(layout, state, SETTINGS, NOW)
    write_etcd(layout, "old")
    plan = replace(alone, mode=Mode.ADOPTING, existing=True, started=False)
    state.save(plan)
    return plan


def test_adoption_moves_the_old_data_and_keeps_the_certificate(
    layout: Layout, state: StateFile
) -> None:
    """Nothing of the old life is lost, the plan of the learner is saved, and it is who it was."""
    plan = prepared(layout, state)
    pem = Path(layout.pki, "server.pem").read_bytes()
    learner = lives.adopt(layout, state, plan, LATER)
    assert learner == state.load() == replace(plan, mode=Mode.JOINING, aside=learner.aside)
    assert Path(layout.pki, "server.pem").read_bytes() == pem
    (etcd,) = map(Path, learner.aside)
    assert (etcd / "member/wal").read_text() == "old"
    assert not Path(layout.etcd_data).exists()


def test_lost_server_adopts_the_certificate_that_it_was_taken_in_with(
    layout: Layout, state: StateFile
) -> None:
    """Its own was gone: it had got one beside the place of the real ones."""
    plan = prepared(layout, state)
    shutil.rmtree(layout.pki)
    lost = replace(plan, mode=Mode.LOST)
    place = lives.usable_pki(layout, lost)
    assert place != Path(layout.pki)
    pem = (place / "server.pem").read_bytes()
    assert lives.usable_pki(layout, lost) == place
    assert (place / "server.pem").read_bytes() == pem
    lives.adopt(layout, state, plan, LATER)
    assert Path(layout.pki, "server.pem").read_bytes() == pem
    assert lives.usable_pki(layout, lost) == Path(layout.pki)


def killed_after(monkeypatch: pytest.MonkeyPatch, name: str, times: int) -> None:
    """Let a step of ``lives`` work so many times, and end the process right after the last."""
    killed_at(monkeypatch, lives if hasattr(lives, name) else credentials, name, times)


def test_adoption_that_was_cut_is_finished_by_the_next_one(
    layout: Layout, state: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed after its step: the same files end in the same places, none twice, none lost."""
    plan = prepared(layout, state)
    pem = Path(layout.pki, "server.pem").read_bytes()
    with monkeypatch.context() as patch:
        killed_after(patch, "set_data_aside", 1)
        with pytest.raises(Killed):
            lives.adopt(layout, state, plan, LATER)
    assert state.load() == plan
    learner = lives.adopt(layout, state, plan, LATER)
    assert learner.mode is Mode.JOINING
    assert Path(layout.pki, "server.pem").read_bytes() == pem
    kept = everything(layout)
    assert [v for k, v in kept.items() if k.endswith("wal")] == [b"old"]
    assert sum(v == pem for v in kept.values()) == 1


@pytest.mark.parametrize(
    ("name", "times", "before"),
    [
        ("make_private_folder", 1, False),
        ("write_atomically", 1, True),
        ("write_atomically", 1, False),
        ("install", 1, False),
    ],
)
def test_adoption_of_another_certificate_that_was_cut_is_finished(
    layout: Layout,
    state: StateFile,
    monkeypatch: pytest.MonkeyPatch,
    name: str,
    times: int,
    before: bool,
) -> None:
    """The members know that one alone: killed at any write, it is the one that is adopted."""
    plan = prepared(layout, state)
    shutil.rmtree(layout.pki)
    place = lives.usable_pki(layout, replace(plan, mode=Mode.LOST))
    pem = (place / "server.pem").read_bytes()
    with monkeypatch.context() as patch:
        killed_at(patch, credentials, name, times, before)
        with pytest.raises(Killed):
            lives.adopt(layout, state, plan, LATER)
    credentials.repair(Path(layout.pki))
    learner = lives.adopt(layout, state, plan, LATER)
    assert learner.mode is Mode.JOINING
    assert Path(layout.pki, "server.pem").read_bytes() == pem


def test_adoption_that_was_cut_still_says_where_the_data_is(
    layout: Layout, state: StateFile, monkeypatch: pytest.MonkeyPatch
) -> None:
    """P7: the user is told where replaced data is, also after a kill -9."""
    plan = prepared(layout, state)
    with monkeypatch.context() as patch:
        killed_after(patch, "set_data_aside", 1)
        with pytest.raises(Killed):
            lives.adopt(layout, state, plan, LATER)
    learner = lives.adopt(layout, state, plan, LATER)
    assert Path(learner.former_data, "member/wal").read_text() == "old"


def test_adoption_twice_is_adoption_once(layout: Layout, state: StateFile) -> None:
    """Killed right after the plan was saved, or before: the second run finds all done."""
    plan = prepared(layout, state)
    lives.adopt(layout, state, plan, LATER)
    before = everything(layout)
    lives.adopt(layout, state, plan, LATER)
    assert everything(layout) == before


def test_removed_server_rests_with_new_certificates(layout: Layout, state: StateFile) -> None:
    """Data and old certificate are aside, nobody knows it now, the reason is kept."""
    plan = lives.begin_alone(layout, state, SETTINGS, NOW)
    write_etcd(layout, "old")
    old = Path(layout.pki, "server.pem").read_bytes()
    leaving = lives.begin_rest(layout, state, plan, "deleted by mgt2", NOW)
    assert state.load() == leaving
    rested = lives.rest(layout, state, leaving, LATER)
    assert rested == state.load()
    assert (rested.mode, rested.reason) == (Mode.REMOVED, "deleted by mgt2")
    assert Path(rested.former_data, "member/wal").read_text() == "old"
    assert Path(layout.pki, "server.pem").read_bytes() != old
    assert Credentials(Path(layout.pki)).identity.name == "mgt1"
    assert not Path(layout.etcd_data).exists()


@pytest.mark.parametrize(
    ("step", "times"), [("set_data_aside", 1), ("set_aside", 1), ("install", 1)]
)
def test_rest_that_was_cut_is_finished_by_the_next_one(
    layout: Layout, state: StateFile, monkeypatch: pytest.MonkeyPatch, step: str, times: int
) -> None:
    """Killed after any step: nothing of the old life is lost."""
    plan = lives.begin_alone(layout, state, SETTINGS, NOW)
    write_etcd(layout, "old")
    old = Path(layout.pki, "server.pem").read_bytes()
    leaving = lives.begin_rest(layout, state, plan, "deleted", NOW)
    with monkeypatch.context() as patch:
        killed_after(patch, step, times)
        with pytest.raises(Killed):
            lives.rest(layout, state, leaving, LATER)
    rested = lives.rest(layout, state, leaving, LATER)
    assert rested == state.load()
    kept = everything(layout)
    assert [v for k, v in kept.items() if k.endswith("wal")] == [b"old"]
    assert old in kept.values()
    assert Path(layout.pki, "server.pem").read_bytes() != old
    assert Credentials(Path(layout.pki)).identity.name == "mgt1"


@pytest.mark.parametrize(
    ("cut_off", "then"),
    [
        (Mode.ADOPTING, Mode.JOINING),
        (Mode.LEAVING, Mode.REMOVED),
        (Mode.NONVOTING, Mode.NONVOTING),
    ],
)
def test_next_start_goes_on_with_the_step_that_was_cut_off(
    layout: Layout, state: StateFile, cut_off: Mode, then: Mode
) -> None:
    """The data is aside, and the state file says so; once more changes nothing."""
    plan = replace(lives.begin_alone(layout, state, SETTINGS, NOW), mode=cut_off, started=False)
    state.save(plan)
    write_etcd(layout, "old")
    gone_on = lives.go_on(layout, state, plan, LATER)
    assert gone_on == state.load()
    assert gone_on.mode is then
    assert Path(gone_on.former_data, "member/wal").read_text() == "old"
    assert not Path(layout.etcd_data).exists()
    assert lives.go_on(layout, state, gone_on, LATER) == gone_on


@pytest.mark.parametrize(
    ("name", "mode", "fits"),
    [
        ("mgt1", Mode.MEMBER, True),
        ("mgt2", Mode.MEMBER, False),
        ("mgt2", Mode.JOINING, False),
        ("mgt2", Mode.ADOPTING, False),
        ("mgt2", Mode.REMOVED, True),
    ],
)
def test_member_keeps_its_name(name: str, mode: Mode, fits: bool) -> None:
    """Only a server that rests may be renamed; the refusal says how to go on."""
    plan = Plan(mode, "mgt1", "10.0.0.1", 13002, 13003, "ab", "", False)
    if fits:
        lives.check_plan(plan, settings(name=name))
        return
    with pytest.raises(RefusedError, match="name is now mgt2") as caught:
        lives.check_plan(plan, settings(name=name))
    assert "set name = mgt1" in str(caught.value.hint)


@pytest.mark.parametrize(
    ("started", "there", "lost"),
    [(True, False, True), (True, True, False), (False, False, False), (False, True, False)],
)
def test_data_is_lost_where_it_was_and_is_not(
    layout: Layout, started: bool, there: bool, lost: bool
) -> None:
    """A disk that was replaced under a member is no fresh member."""
    plan = Plan(Mode.MEMBER, "mgt1", "a", 1, 2, "ab", "", False, started=started)
    credentials.prepare_fresh(Path(layout.pki), "mgt1", ["127.0.0.2"])
    credentials.install(Path(layout.pki))
    if there:
        write_etcd(layout, "")
    assert (lives.data_is_lost(layout, plan) is not None) is lost


@pytest.mark.parametrize(
    ("mode", "existing", "started", "there", "cut"),
    [
        (Mode.MEMBER, False, False, True, True),
        (Mode.MEMBER, False, False, False, False),
        (Mode.MEMBER, False, True, True, False),
        (Mode.MEMBER, True, False, True, False),
        (Mode.JOINING, True, False, True, False),
        (Mode.JOINING, False, False, True, False),
        (Mode.ADOPTING, False, False, True, False),
        (Mode.LEAVING, False, False, True, False),
        (Mode.REMOVED, False, False, True, False),
    ],
)
def test_first_start_was_cut_where_a_new_etcd_never_answered(
    layout: Layout, mode: Mode, existing: bool, started: bool, there: bool, cut: bool
) -> None:
    """Data that anybody can have written to is never taken for half-made."""
    plan = Plan(mode, "mgt1", "a", 1, 2, "ab", "", existing, started=started)
    credentials.prepare_fresh(Path(layout.pki), "mgt1", ["127.0.0.2"])
    credentials.install(Path(layout.pki))
    if there:
        write_etcd(layout, "")
    assert lives.first_start_was_cut(layout, plan) is cut


@pytest.mark.parametrize("cut", ["prepare_fresh", "install"])
def test_first_start_that_was_cut_is_done_again(
    layout: Layout, state: StateFile, monkeypatch: pytest.MonkeyPatch, cut: str
) -> None:
    """The state file comes first; the certificate is made by whoever starts next."""
    with monkeypatch.context() as patch, suppress(Killed):
        killed_after(patch, cut, 1)
        lives.begin_alone(layout, state, SETTINGS, NOW)
    credentials.repair(Path(layout.pki))
    assert lives.without_state(layout, state, SETTINGS) is None
    found = state.load()
    assert found is not None
    if lives.first_start_was_cut(layout, found):
        found = lives.begin_alone(layout, state, SETTINGS, LATER, found)
    assert found.mode is Mode.MEMBER
    assert lives.data_is_lost(layout, found) is None
    assert Credentials(Path(layout.pki)).identity.name == "mgt1"


@pytest.mark.parametrize("step", ["begin_rest", "rest", "begin_alone"])
@pytest.mark.parametrize(
    ("cut", "times"),
    [
        ("prepare_fresh", 1),
        ("set_data_aside", 1),
        ("set_aside", 1),
        ("install", 1),
    ],
)
def test_server_that_was_cut_on_its_way_out_or_back_can_start(
    layout: Layout,
    state: StateFile,
    monkeypatch: pytest.MonkeyPatch,
    step: str,
    cut: str,
    times: int,
) -> None:
    """After any kill -9, what the next start finds is a plan with the files that it needs (P5)."""
    plan = lives.begin_alone(layout, state, SETTINGS, NOW)
    plan = replace(plan, started=True)
    state.save(plan)
    write_etcd(layout, "old")

    def go() -> None:
        left = plan
        if step != "begin_alone":
            left = lives.begin_rest(layout, state, left, "deleted", NOW)
            if step == "rest":
                lives.rest(layout, state, left, LATER)
        else:
            state.save(replace(plan, mode=Mode.REMOVED))
            lives.begin_alone(layout, state, SETTINGS, LATER)

    with monkeypatch.context() as patch, suppress(Killed):
        killed_after(patch, cut, times)
        go()
    credentials.repair(Path(layout.pki))
    found = state.load()
    assert found is not None
    if found.mode is Mode.LEAVING:
        found = lives.rest(layout, state, found, LATER)
    assert Credentials(Path(layout.pki)).identity.name == "mgt1"
    if found.mode is Mode.MEMBER:
        assert lives.data_is_lost(layout, found) is None
    assert [v for k, v in everything(layout).items() if k.endswith("wal")] == [b"old"]
