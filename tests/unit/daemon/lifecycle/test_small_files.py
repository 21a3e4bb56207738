"""Every small file of a server x every damage: it rests and names the file, or needs it not.

The table of files is in ``tests.harness.small_files``; an integration test compares it with what a
real server has in its folders, so that none is forgotten.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from datetime import datetime, timezone
from pathlib import Path

import pytest

from collective.daemon.lifecycle import lives
from collective.daemon.lifecycle.inactive import idle_error
from collective.daemon.lifecycle.state_file import StateFile
from collective.daemon.member.credentials import Credentials
from collective.daemon.settings import parse_settings
from collective.errors import LostError
from collective.model.high_water_mark import HighWaterMark
from collective.model.layout import Layout
from collective.model.plan import Mode, Plan
from collective.model.records import MemberRecord, Role, to_json
from collective.model.view import Item, View, member_key
from tests.harness.small_files import ETCDS_OWN, RESTS

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)
KINDS = {"voter": Mode.MEMBER, "nonvoting": Mode.NONVOTING, "alone": Mode.MEMBER}


class Folder:
    """The folders of a server as they are after a life of its own."""

    def __init__(self, root: Path, kind: str, name: str = "mgt1") -> None:
        self.layout = Layout(str(root / "conf"), str(root / "var"), str(root / "run"))
        self.settings = parse_settings(f"name = {name}\naddress = 127.0.0.2\n")
        Path(self.layout.data).mkdir(parents=True)
        self.state = StateFile(Path(self.layout.state))
        alone = lives.begin_alone(self.layout, self.state, self.settings, NOW)
        self._change_certificate()
        votes = kind != "nonvoting"
        role = Role.VOTER if votes else Role.NONVOTING
        existing = kind != "alone"
        self.plan = replace(alone, mode=KINDS[kind], existing=existing, started=votes, role=role)
        self.state.save(self.plan)
        self._remember(role, ["mgt1", "mgt9"] if existing else [name])
        if votes:
            Path(self.layout.etcd_log).mkdir(parents=True)
            own = self.pki("server.pem").read_bytes()
            self.pki("trusted.pem").write_bytes(own * (2 if existing else 1))
            for file in ETCDS_OWN - {"trusted.pem"}:
                self.pki(file).write_bytes(own)

    def _change_certificate(self) -> None:
        made = Credentials(Path(self.layout.pki))
        made.prepare_next(["127.0.0.2"])
        made.use_next()
        made.prepare_next(["127.0.0.3"])

    def _remember(self, role: Role, names: list[str]) -> None:
        pem = Credentials(Path(self.layout.pki)).identity.pem
        records = [
            MemberRecord(name, "1", role if name != "mgt9" else Role.VOTER, "127.0.0.2",
                         1, 2, (pem,), 0.0)
            for name in names
        ]  # fmt: skip
        items = {member_key(r.name): Item(to_json(r).encode(), 1) for r in records}
        self.state.save_view(View(1, items), self.plan.cluster_token)
        promises = {"mgt9": HighWaterMark("ab", 1, 1)}
        self.state.save_promises(promises, self.plan.cluster_token)
        Path(self.layout.state, "whereabouts.json").write_text('{"mgt9": "127.0.0.9"}')

    def pki(self, name: str) -> Path:
        return Path(self.layout.pki, name)

    def file(self, name: str) -> Path:
        """Return where a small file is."""
        (found,) = [p for p in Path(self.layout.data).rglob(name) if "set-aside" not in p.parts]
        return found

    def look(self) -> Plan:
        """Return what a start makes of it."""
        lost = lives.without_state(self.layout, self.state, self.settings)
        if lost is not None:
            return lost
        plan = self.state.load()
        assert plan is not None
        return lives.go_on(self.layout, self.state, plan, NOW)


def _empty(path: Path, _other: Folder) -> None:
    path.write_bytes(b"")


def _garbage(path: Path, _other: Folder) -> None:
    path.write_bytes(b"\x00\xffgarbage{")


def _foreign(path: Path, other: Folder) -> None:
    shutil.copy(other.file(path.name), path)


def _unreadable(path: Path, _other: Folder) -> None:
    # What root, too, cannot read; mode 000 is tried on real daemons.
    path.unlink()
    path.mkdir()


DAMAGES: dict[str, Callable[[Path, Folder], None]] = {
    "missing": lambda path, _other: path.unlink(),
    "empty": _empty,
    "garbage": _garbage,
    "foreign": _foreign,
    "locked": _unreadable,
}


def put_back(path: Path, content: bytes) -> None:
    """Have the file there again as it was."""
    if path.is_dir():
        path.rmdir()
    path.write_bytes(content)


@pytest.mark.parametrize(
    ("kind", "name"),
    [(k, n) for k in KINDS for n in RESTS if k != "nonvoting" or n not in ETCDS_OWN],
)
@pytest.mark.parametrize("damage", DAMAGES)
def test_server_with_a_damaged_file_rests_and_names_it(
    tmp_path: Path, kind: str, name: str, damage: str
) -> None:
    """With the file put back it is the member again; nothing was moved and nothing begun anew."""
    server, other = Folder(tmp_path / "a", kind), Folder(tmp_path / "b", "voter", "mgt2")
    assert server.look() == server.plan
    path = server.file(name)
    content = path.read_bytes()
    DAMAGES[damage](path, other)
    found = server.look()
    rests = damage in RESTS[name] and not (
        kind == "alone" and name == "view.json" and damage in ("missing", "foreign")
    )
    assert (found.mode is Mode.LOST) is rests, found.reason
    if rests:
        assert str(path) in found.reason
        error = idle_error(found)
        assert isinstance(error, LostError)
        assert "restart collectived" in (error.hint or "")
        assert Credentials(lives.usable_pki(server.layout, found)).identity.name == "mgt1"
    assert server.look().mode is found.mode, "a second start finds the same"
    put_back(path, content)
    back = server.look()
    assert back.mode is (Mode.JOINING if rests and _was_nonvoting(kind, name) else KINDS[kind])
    assert back.cluster_token == server.plan.cluster_token
    assert not Path(server.layout.aside).exists()


def _was_nonvoting(kind: str, name: str) -> bool:
    # It goes on joining, and finds at once that it has joined.
    return kind == "nonvoting" and name != "server.json"


@pytest.mark.parametrize("name", ["server.json", "server.pem", "view.json"])
def test_file_of_a_server_of_the_same_name_is_told(tmp_path: Path, name: str) -> None:
    """Of another collective: neither name nor form tells it, what it says does."""
    server, other = Folder(tmp_path / "a", "voter"), Folder(tmp_path / "b", "voter")
    _foreign(server.file(name), other)
    found = server.look()
    assert found.mode is Mode.LOST
    # Which of both is the odd one nobody can tell.
    named = "view.json" if name == "server.json" else name
    assert str(server.file(named)) in found.reason


@pytest.mark.parametrize(("kind", "others"), [("alone", False), ("voter", True)])
@pytest.mark.parametrize("gone", [(), ("view.json",), ("view.json", "promises.json")])
def test_server_without_state_file_knows_whether_it_had_others(
    tmp_path: Path, kind: str, others: bool, gone: tuple[str, ...]
) -> None:
    """By whichever memory is left: only one that was alone may begin anew by gencert."""
    server = Folder(tmp_path / "a", kind)
    if kind == "alone" and gone == ("view.json",):
        server.file("promises.json").unlink()
    for name in ("server.json", *gone):
        server.file(name).unlink()
    found = server.look()
    assert (found.mode, found.existing) == (Mode.LOST, others)
    assert ("gencert" in (idle_error(found).hint or "")) is not others


def test_state_file_that_says_something_else_is_kept(tmp_path: Path) -> None:
    """P7: what a join or gencert replaces is moved aside, be it damaged."""
    server = Folder(tmp_path / "a", "voter")
    lives.keep_state(server.layout, server.state, server.plan, NOW)
    assert server.state.load() == server.plan
    server.state.path.write_text("garbage")
    lives.keep_state(server.layout, server.state, server.look(), NOW)
    (kept,) = Path(server.layout.aside).glob("*-damaged-state/server.json")
    assert kept.read_text() == "garbage"
    assert server.state.load() is None


@pytest.mark.parametrize("kind", KINDS)
def test_server_with_nothing_but_its_certificate_was_one(tmp_path: Path, kind: str) -> None:
    """A fresh one gets its state file first, so that this can be told from a first start."""
    server = Folder(tmp_path / "a", kind)
    shutil.rmtree(server.layout.etcd_data, ignore_errors=True)
    for path in Path(server.layout.data).rglob("*"):
        if path.is_file() and path.name != "server.pem":
            path.unlink()
    found = server.look()
    assert found.mode is Mode.LOST
    assert "server.pem" in found.reason
