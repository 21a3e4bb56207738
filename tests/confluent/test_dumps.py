"""What ``confluentdbutil`` has dumped becomes the configuration of the collective."""

from __future__ import annotations

import json
from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import yaml

from collective.errors import RefusedError
from tests.confluent.conftest import Kind
from tests.harness import Cluster, Server, wait_until
from tests.harness.confluents import Confluent

pytestmark = pytest.mark.integration

SECONDS = 30.0
PASSWORD = "correct horse"
SECRET = "secret.hardwaremanagementpassword"
ConfluentOf = Callable[[str, "Server | None"], Confluent]


@pytest.fixture
def dumped(tmp_path: Path, confluent_of: ConfluentOf) -> Callable[[str | None], Path]:
    """Makes a dump of a Confluent that is no member: it has another master key."""

    def dump(password: str | None) -> Path:
        folder = tmp_path / "dump"
        folder.mkdir()
        elsewhere = confluent_of("elsewhere", None)
        elsewhere.start()
        elsewhere.mutate("add_group_attributes", {"rack": {"location.room": "old"}})
        elsewhere.mutate("add_node_attributes", {"n1": {"groups": ["rack"]}})
        elsewhere.mutate("set_node_attributes", {"n1": {SECRET: "hush"}})
        elsewhere.mutate("create_user", "ann", "Operator")
        elsewhere.ask("dump_to", str(folder), password)
        elsewhere.stop()
        return folder

    return dump


@pytest.mark.parametrize("password", [None, PASSWORD], ids=["unprotected", "protected"])
def test_dump_of_another_confluent_is_imported_with_its_secrets(
    cluster: Cluster,
    confluent_of: ConfluentOf,
    dumped: Callable[[str | None], Path],
    tmp_path: Path,
    password: str | None,
) -> None:
    """The server that imports it has the key then, and gives it to others; what it had is kept."""
    servers = cluster.grow(2)
    folder = dumped(password)
    before = {file.name: file.read_bytes() for file in folder.iterdir()}
    alone = confluent_of("mgt1", None)
    alone.start()
    alone.mutate("add_node_attributes", {"o1": {"groups": []}})
    alone.ask("sync")
    alone.stop()
    mgt1, mgt2 = (confluent_of(server.name, server) for server in servers)
    words = [str(folder)]
    if password is not None:
        file = tmp_path / "password"
        file.write_text(f"{password}\n")
        words += ["--password-file", str(file)]
    looked = mgt1.import_folder(*words, "--check")
    assert looked.endswith(" entries can be imported; transaction count 0"), looked
    told = json.loads(mgt1.import_folder(*words, "--check", "--json"))
    assert told == {
        "name": "mgt1",
        "entries": told["entries"],
        "transactions": 0,
        "errors": [],
        "warnings": [],
        "member": "mgt1",
        "members": ["mgt1", "mgt2"],
        "quorum": True,
        "is_taken": False,
    }
    assert looked.startswith(f"{told['entries']} entries")
    assert not list(mgt1.cfg.parent.glob("cfg.aside-*"))
    assert mgt1.import_folder(*words).startswith("Success: ")
    assert {file.name: file.read_bytes() for file in folder.iterdir()} == before
    for each in (mgt1, mgt2):
        each.start()
        wait_until(partial(each.ask, "quorum"), SECONDS, "it knows of the quorum")
        wait_until(lambda e=each: e.ask("nodes") == 1, SECONDS, "it has it")  # type: ignore[misc]
        secret = each.ask("attributes", ["n1"], [SECRET, "location.room"])["n1"]
        assert secret[SECRET]["value"] == "hush"
        assert secret["location.room"]["value"] == "old"
    assert mgt1.ask("dump") == mgt2.ask("dump")
    (aside,) = mgt1.cfg.parent.glob("cfg.aside-*")
    copy = confluent_of("copy", None)
    copy.cfg.parent.mkdir()
    aside.rename(copy.cfg)
    copy.start()
    assert list(copy.dump()["nodes"]) == ["o1"]


def test_dump_in_yaml_is_imported(
    kind: Kind,
    cluster: Cluster,
    confluent_of: ConfluentOf,
    dumped: Callable[[str | None], Path],
    tmp_path: Path,
) -> None:
    """With a password, too."""
    if not kind.real:
        pytest.skip("the stand-in dumps no YAML")
    (server,) = cluster.grow(1)
    folder, password = dumped(PASSWORD), tmp_path / "password"
    password.write_text(PASSWORD)
    for name in ("keys", "main"):
        file = folder / f"{name}.json"
        file.with_suffix(".yaml").write_text(yaml.safe_dump(json.loads(file.read_text())))
        file.unlink()
    mgt1 = confluent_of("mgt1", server)
    mgt1.cfg.mkdir(parents=True)
    mgt1.import_folder(str(folder), "--password-file", str(password))
    mgt1.start()
    wait_until(partial(mgt1.ask, "quorum"), SECONDS, "it knows of the quorum")
    assert mgt1.ask("attributes", ["n1"], [SECRET])["n1"][SECRET]["value"] == "hush"


def test_protected_dump_is_refused_without_its_password(
    cluster: Cluster,
    confluent_of: ConfluentOf,
    dumped: Callable[[str | None], Path],
    tmp_path: Path,
) -> None:
    """One sentence and a hint; nothing is stored, or changed here; no password is told."""
    servers = cluster.grow(1)
    mgt1 = confluent_of("mgt1", servers[0])
    mgt1.cfg.mkdir(parents=True)
    folder, wrong = dumped(PASSWORD), tmp_path / "wrong"
    wrong.write_text("battery staple")
    keys = (folder / "keys.json").read_bytes()
    for words, says in (
        ([], "there is nobody to ask for the password"),
        (["--password-file", str(tmp_path / "none")], "cannot read the password in"),
        (["--password-file", str(wrong)], "cannot read the dump in"),
        (["--password-file", "without keys"], "holds no keys"),
    ):
        if says == "holds no keys":
            (folder / "keys.json").unlink()
        done = mgt1.try_import(str(folder), *words)
        assert done.returncode == RefusedError.exit_code, done.stderr
        assert says in done.stderr
        assert "confluent-collective: hint: " in done.stderr or "none" in words[-1]
        assert "Traceback" not in done.stderr
        assert "battery" not in done.stdout + done.stderr
    assert list(mgt1.cfg.iterdir()) == []
    (folder / "keys.json").write_bytes(keys)
    file = tmp_path / "password"
    file.write_text(PASSWORD)
    assert mgt1.import_folder(str(folder), "--password-file", str(file)).startswith("Success: ")
    done = mgt1.try_import(str(folder), "--password-file", str(file))
    assert "has a configuration of Confluent already" in done.stderr
    assert not list(mgt1.cfg.parent.glob("cfg.aside-*")), "it is refused before a file is changed"
    again = (str(folder), "--password-file", str(file), "--replace")
    mgt1.start()
    wait_until(partial(mgt1.ask, "quorum"), SECONDS, "it knows of the quorum")
    wait_until(lambda: "mgt1" in mgt1.try_import(*again).stderr, SECONDS, "it says that it runs")
    mgt1.stop()
    replaced = wait_until(
        lambda: (done := mgt1.try_import(*again)).returncode == 0 and done.stdout,
        SECONDS,
        "it runs no more",
    )
    assert str(replaced).startswith("Success: ")
