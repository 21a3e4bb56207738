"""A collective of three on hosts that fail, grow, are replaced and leave."""

from __future__ import annotations

import pytest

from tests.deploy.conftest import NAMES, THREE
from tests.deploy.controller import Controller
from tests.deploy.hosts import Hosts
from tests.deploy.image import offered
from tests.harness.waiting import wait_until

pytestmark = [pytest.mark.root, pytest.mark.slow]
SECONDS = 60.0
#: Each with a firewall, and an etcd from somewhere else.
FOURTH = {"collective_etcd_source": "bundle"}
FIFTH = {"collective_etcd_source": "package"}


def five() -> dict[str, dict[str, str]]:
    """Return the inventory of all."""
    package = str(offered("etcd-server"))
    fifth = {**FIFTH, "collective_etcd_packages": f"'[\"{package}\"]'"}
    return {name: {} for name in THREE} | {"mgt4": FOURTH, "mgt5": fifth}


def test_reboot_of_one_host(hosts: Hosts, controller: Controller) -> None:
    """It comes back by itself."""
    hosts.reboot("mgt2")
    hosts.wait_active("mgt1", *THREE)
    controller.note("reboot of one host")


def test_power_cut_of_all(hosts: Hosts, controller: Controller) -> None:
    """All go off at once, and come back in another order."""
    for name in THREE:
        hosts.power_off(name)
    for name in ("mgt3", "mgt1", "mgt2"):
        hosts.boot(name)
    for name in THREE:
        hosts.wait_for(name)
    hosts.wait_active("mgt1", *THREE)
    controller.note("power off all, boot all")


def test_two_hosts_become_a_collective_through_their_firewalls(
    hosts: Hosts, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An even number of voters is warned of; ufw and firewalld let the others in."""
    hosts.ssh("mgt4", "ufw allow OpenSSH && ufw --force enable")
    hosts.ssh("mgt5", "systemctl enable --now firewalld")
    pair = {name: five()[name] for name in ("mgt4", "mgt5")}
    monkeypatch.setattr(controller, "inventory", pair)
    played = controller.play("form a pair behind firewalls", "site")
    assert "2 voters survive the loss of 0" in played.out
    hosts.wait_active("mgt4", "mgt4", "mgt5")
    assert controller.play("pair, second run", "site").changed == 0


def test_hosts_of_two_collectives_are_not_mixed(hosts: Hosts, controller: Controller) -> None:
    """Neither collective is touched."""
    controller.inventory = five()
    controller.refused("two collectives", "site", "these hosts are in different collectives")
    hosts.wait_active("mgt4", "mgt4", "mgt5")


def test_reset_wants_the_names_typed(
    hosts: Hosts, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then each is a server of its own, and its data is still there, aside."""
    pair = {name: five()[name] for name in ("mgt4", "mgt5")}
    monkeypatch.setattr(controller, "inventory", pair)
    controller.refused("reset, nothing typed", "reset", "nothing was changed")
    controller.play("reset", "reset", variables={"collective_confirm": "mgt4, mgt5"})
    hosts.wait_active("mgt4", "mgt4")
    assert "server.pem" in hosts.ssh("mgt4", "find /var/lib/confluent-collective.2*").stdout


def test_grow_to_five(hosts: Hosts, controller: Controller) -> None:
    """Two more lines in the inventory."""
    played = controller.play("grow", "site")
    assert "5 voters, quorum 3" in played.out
    hosts.wait_active("mgt1", *NAMES)


def test_replacing_a_host_that_lives_is_refused(controller: Controller) -> None:
    """And one that nobody has named, or that is not in the inventory."""
    named = {"collective_host": "mgt5"}
    controller.refused("replace a live one", "replace", "mgt5 is in its", variables=named)
    controller.refused("replace nobody", "replace", "say which host")
    unknown = {"collective_host": "mgt9"}
    controller.refused("remove an unknown one", "remove", "say which host", variables=unknown)


def test_host_that_is_off_stops_everything_that_could_hurt(
    hosts: Hosts, controller: Controller
) -> None:
    """Before anything is changed on any host."""
    hosts.power_off("mgt5")
    wait_until(lambda: hosts.states("mgt1").get("mgt5") == "offline", SECONDS, "it is missed")
    controller.refused("site, mgt5 off", "site", "UNREACHABLE")
    controller.refused("upgrade, mgt5 off", "upgrade", "UNREACHABLE")
    hosts.boot("mgt5")
    hosts.wait_for("mgt5")
    hosts.wait_active("mgt1", *NAMES)
    hosts.ssh("mgt5", "systemctl stop collectived")
    controller.refused("upgrade, daemon of mgt5 off", "upgrade", "mgt5 is missing")
    hosts.ssh("mgt5", "systemctl start collectived")
    hosts.wait_active("mgt1", *NAMES)


def test_replace_a_host_that_was_installed_anew(hosts: Hosts, controller: Controller) -> None:
    """Under its name, on an empty disk."""
    hosts.reinstall("mgt5")
    controller.play("replace", "replace", variables={"collective_host": "mgt5"})
    hosts.wait_active("mgt1", *NAMES)


def test_removed_host_is_locked_out(hosts: Hosts, controller: Controller) -> None:
    """One that answers, and one that is off and comes back; each with a copy of all its keys."""
    for name in ("mgt4", "mgt5"):
        hosts.ssh(name, f"cp -r /var/lib/confluent-collective/pki {STOLEN}")
        assert open_doors(hosts, name) == list(DOORS)
    controller.play("remove", "remove", variables={"collective_host": "mgt4"})
    hosts.wait_active("mgt1", "mgt1", "mgt2", "mgt3", "mgt5")
    hosts.ssh("mgt4", "systemctl start collectived")
    locked_out(hosts, "mgt4")
    hosts.power_off("mgt5")
    controller.inventory.pop("mgt4")
    controller.play("remove, off", "remove", variables={"collective_host": "mgt5"})
    hosts.wait_active("mgt1", *THREE)
    hosts.boot("mgt5")
    hosts.wait_for("mgt5")
    locked_out(hosts, "mgt5")
    controller.inventory.pop("mgt5")
    assert controller.play("after removals", "site").changed == 0


STOLEN = "/root/stolen"
#: The daemon's and etcd's, each with something that any member may ask there.
DOORS = ("13002/v1/status", "13003/members")


def open_doors(hosts: Hosts, name: str) -> list[str]:
    """Return the doors of mgt1 that open to the keys that were copied on a host."""
    use = f"curl -sfk --http1.1 --max-time 5 -o /dev/null --cert {STOLEN}/server.pem https://mgt1"
    return [door for door in DOORS if not hosts.ssh(name, f"{use}:{door}", check=False).returncode]


def locked_out(hosts: Hosts, name: str) -> None:
    """See that a server knows that it was removed, and that no door opens to what it kept."""
    wait_until(lambda: hosts.show(name)["mode"] not in ("member", "none"), SECONDS, "it knows")
    assert open_doors(hosts, name) == []
    assert name not in hosts.states("mgt1")


def test_new_certificates_one_host_after_the_other(hosts: Hosts, controller: Controller) -> None:
    """Of those that are named and no other; the keys that were used before open no door."""
    controller.refused("certificates, nobody named", "new_certificate", "say which hosts")
    before = certificates(hosts)
    hosts.ssh("mgt3", f"cp -r /var/lib/confluent-collective/pki {STOLEN}")
    assert open_doors(hosts, "mgt3") == list(DOORS)
    two = {"collective_hosts": "mgt2,mgt3"}
    assert controller.play("check mode", "new_certificate", "--check", variables=two).changed == 2
    assert certificates(hosts) == before
    assert controller.play("new certificates", "new_certificate", variables=two).changed == 2
    hosts.wait_active("mgt2", *THREE)
    after = certificates(hosts)
    assert {name for name in THREE if before[name] != after[name]} == {"mgt2", "mgt3"}
    assert open_doors(hosts, "mgt3") == []


def certificates(hosts: Hosts) -> dict[str, str]:
    """Return the fingerprint of each member's certificate."""
    return {m["name"]: m["certificate_fingerprint"] for m in hosts.show("mgt1")["members"]}
