"""From nothing to a collective of five and back, on real hosts; each goes on from the last."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.deploy.conftest import NAMES
from tests.deploy.controller import Controller
from tests.deploy.hosts import Hosts
from tests.harness.waiting import wait_until

pytestmark = pytest.mark.root
SECONDS = 60.0
THREE = NAMES[:3]


@pytest.fixture
def variables(bundle: Path) -> dict[str, object]:
    """What the inventory says of all hosts: they have no way out."""
    return {"collective_source": "bundle", "collective_bundle": str(bundle)}


def show(hosts: Hosts, name: str) -> dict[str, Any]:
    """Return what a server shows."""
    said = hosts.ssh(name, "collective show --json", check=False).stdout
    return json.loads(said) if said.strip() else {"mode": "none", "members": []}


def states(hosts: Hosts, name: str) -> dict[str, str]:
    """Return the state of each member, as a server shows it."""
    return {m["name"]: m["state"] for m in show(hosts, name)["members"]}


def active(*names: str) -> dict[str, str]:
    """Return what is shown when all are well."""
    return dict.fromkeys(names, "active")


def test_check_mode_on_fresh_hosts_changes_nothing(
    hosts: Hosts, controller: Controller, variables: dict[str, object]
) -> None:
    """It says what would be done, to the end."""
    controller.play("check mode, fresh hosts", "site", "--check", "--diff", variables=variables)
    assert hosts.ssh("mgt1", "test -e /opt/confluent-collective", check=False).returncode != 0


def test_form_and_nothing_changes_the_second_time(
    hosts: Hosts, controller: Controller, variables: dict[str, object]
) -> None:
    """Three hosts of which nothing was known are a collective."""
    controller.play("form", "site", variables=variables)
    assert states(hosts, "mgt2") == active(*THREE)
    again = controller.play("second run", "site", variables=variables)
    assert again.changed == 0
    checked = controller.play("check mode, formed", "site", "--check", variables=variables)
    assert checked.changed == 0


def test_one_liner_of_the_manual_works_by_hand(hosts: Hosts) -> None:
    """As the manual gives it, typed on one host, with ssh to the other."""
    hosts.let_in("mgt1", "mgt3")
    hosts.ssh("mgt1", "collective delete mgt3 --force --no-rekey")
    assert states(hosts, "mgt1") == active("mgt1", "mgt2")
    said = hosts.ssh("mgt1", "collective invite mgt3 | ssh mgt3 collective join mgt1 -i -")
    assert "Success" in said.stdout
    assert states(hosts, "mgt3") == active(*THREE)


def test_reboot_of_one_host(hosts: Hosts) -> None:
    """It comes back by itself."""
    hosts.reboot("mgt2")
    wait_until(lambda: states(hosts, "mgt1") == active(*THREE), SECONDS, "mgt2 is back")


def test_power_cut_of_all(hosts: Hosts) -> None:
    """All go off at once, and come back in another order."""
    for name in THREE:
        hosts.power_off(name)
    for name in ("mgt3", "mgt1", "mgt2"):
        hosts.boot(name)
    for name in THREE:
        hosts.wait_for(name)
    wait_until(lambda: states(hosts, "mgt1") == active(*THREE), SECONDS, "all are back")


def test_grow_to_five(hosts: Hosts, controller: Controller, variables: dict[str, object]) -> None:
    """Two more lines in the inventory."""
    controller.inventory = {name: {} for name in NAMES}
    controller.play("grow", "site", variables=variables)
    assert states(hosts, "mgt1") == active(*NAMES)


@dataclass(frozen=True)
class Bad:
    """Something that is wrong, and a part of what is said of it."""

    title: str
    inventory: dict[str, dict[str, str]]
    variables: dict[str, object]
    said: str


BAD = [
    Bad(
        "name twice",
        {"mgt1": {}, "mgt2": {"collective_name": "mgt1"}},
        {},
        "the name mgt1 in common",
    ),
    Bad(
        "address twice",
        {"mgt1": {}, "mgt2": {"collective_address": "10.99.0.11"}},
        {},
        "have the address 10.99.0.11 in common",
    ),
    Bad("wrong type", {"mgt1": {}}, {"collective_port": "many"}, "collective_port"),
    Bad("unknown source", {"mgt1": {}}, {"collective_source": "tape"}, "collective_source"),
    Bad("no bundle", {"mgt1": {}}, {"collective_bundle": "/none.gz"}, "/none.gz is not on the"),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.title)
def test_bad_input_stops_before_anything_is_changed(
    controller: Controller, variables: dict[str, object], bad: Bad
) -> None:
    """With one sentence that says what and where."""
    controller.inventory = bad.inventory
    played = controller.play(bad.title, "site", variables=variables | bad.variables, check=False)
    controller.inventory = {name: {} for name in NAMES}
    assert played.code != 0
    assert played.changed == 0
    assert bad.said in played.failures
