"""From nothing to a collective of three: what is refused, a run that is broken off, its next."""

from __future__ import annotations

import re
import shutil
import tarfile
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.deploy.conftest import THREE
from tests.deploy.controller import Controller, stop
from tests.deploy.hosts import Hosts

pytestmark = pytest.mark.root
#: So long that the kernel waits for seconds before it sends again.
_CUT_SECONDS = 12


def test_check_mode_on_fresh_hosts_changes_nothing(hosts: Hosts, controller: Controller) -> None:
    """It says what would be done, to the end."""
    controller.play("check mode, fresh hosts", "site", "--check", "--diff")
    assert hosts.ssh("mgt1", "test -e /opt/confluent-collective", check=False).returncode != 0


@dataclass(frozen=True)
class Bad:
    """Something that is wrong, and a part of what is said of it.

    Attributes:
        title: for the log.
        said: that part.
        hosts: what is different in the inventory.
        variables: what is different for all hosts.
    """

    title: str
    said: str
    hosts: dict[str, dict[str, str]] = field(default_factory=dict)
    variables: dict[str, object] = field(default_factory=dict)


BAD = [
    Bad("name twice", "the name mgt1 in common", {"mgt2": {"collective_name": "mgt1"}}),
    Bad(
        "address twice",
        "have the address 10.99.0.11 in common",
        {"mgt2": {"collective_address": "10.99.0.11"}},
    ),
    Bad("wrong type", "cannot be converted to", variables={"collective_port": "many"}),
    Bad("unknown source", "must be one of", variables={"collective_source": "tape"}),
    Bad("bad name", "is no name of a server", {"mgt2": {"collective_name": "mgt_2"}}),
    Bad("nobody votes", "no host is to vote", variables={"collective_voting": False}),
    Bad("no bundle", "/none.gz is not on the", variables={"collective_bundle": "/none.gz"}),
    Bad("other bundle", "has the SHA-256", variables={"collective_bundle_sha256": "0" * 64}),
    Bad("no Python", "3.10 or newer is needed", variables={"collective_python": "/usr/bin/none"}),
]


@pytest.mark.parametrize("bad", BAD, ids=lambda bad: bad.title)
def test_bad_variables_stop_it_before_anything_is_changed(
    controller: Controller, monkeypatch: pytest.MonkeyPatch, bad: Bad
) -> None:
    """With one sentence that says what and where."""
    monkeypatch.setattr(controller, "inventory", {**controller.inventory, **bad.hosts})
    controller.refused(bad.title, "site", bad.said, variables=bad.variables)


def test_leaving_hosts_out_is_refused(controller: Controller) -> None:
    """With --limit, a fresh host would become a collective of its own."""
    controller.refused("--limit", "site", "left out: mgt2, mgt3", "--limit", "mgt1")


def test_clocks_apart_are_warned_of(
    hosts: Hosts, controller: Controller, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are no reason to stop: nobody is trusted for what a clock says."""
    ahead = '#!/bin/sh\nexec faketime -f +120s /usr/bin/python3 "$@"\n'
    hosts.ssh("mgt2", "cat > /root/ahead; chmod +x /root/ahead", text=ahead)
    late = {**controller.inventory, "mgt2": {"ansible_python_interpreter": "/root/ahead"}}
    monkeypatch.setattr(controller, "inventory", late)
    played = controller.play("clocks apart", "site", "--check")
    # Warnings are broken into lines.
    assert "s apart, at most 30 s are good" in " ".join(played.out.split())


def test_bundle_that_was_changed_is_refused(
    controller: Controller, bundle: Path, work: Path
) -> None:
    """Before it is brought to any host: a package of etcd in it, which nobody has signed."""
    folder = work / "changed"
    shutil.unpack_archive(bundle, folder)
    (package,) = (folder / "etcd").iterdir()
    package.write_bytes(package.read_bytes() + b"more")
    changed = work / "changed.tar.gz"
    with tarfile.open(changed, "w:gz", compresslevel=1) as archive:
        for item in sorted(folder.iterdir()):
            archive.add(item, item.name)
    said = f"etcd/{package.name} has the SHA-256"
    controller.refused(
        "changed bundle", "site", said, variables={"collective_bundle": str(changed)}
    )


def test_foreign_etcd_stops_it(hosts: Hosts, controller: Controller) -> None:
    """As a service that installing would stop, and on one of the ports."""
    hosts.ssh("mgt3", "apt-get -qq install etcd-server")
    controller.refused("foreign service etcd", "site", "mgt3: the service etcd runs there")
    hosts.ssh("mgt3", "systemctl disable --now etcd")
    foreign = "etcd --data-dir=/tmp/foreign --listen-peer-urls=http://0.0.0.0:13003"
    hosts.ssh("mgt3", f"systemd-run --unit=foreign {foreign}")
    controller.refused("port taken", "site", "mgt3: port 13003 is in use by etcd")
    hosts.ssh("mgt3", "systemctl stop foreign; rm -rf /tmp/foreign")


def test_broken_off_run_is_finished_by_the_next(hosts: Hosts, controller: Controller) -> None:
    """The controller's power goes when two of three are members."""
    child = controller.begin("site")
    assert child.stdout is not None
    out = ""
    for line in child.stdout:
        out += line
        if "Make it a member" in out and line.startswith("changed: [mgt2]"):
            break
    stop(child)
    controller.note("broken off", out)
    assert hosts.states("mgt1").keys() == {"mgt1", "mgt2"}
    played = controller.play("form", "site")
    assert re.search(r"3 voters, quorum 2, leader mgt\d: 1 more", played.out)
    hosts.wait_active("mgt2", *THREE)


def test_nothing_changes_the_second_time(controller: Controller) -> None:
    """Not for real, and not in check mode."""
    assert controller.play("second run", "site").changed == 0
    assert controller.play("check mode, formed", "site", "--check").changed == 0
    settings = {"collective_settings": {"log_level": "debug"}}
    told = controller.play("check mode, new settings", "site", "--check", variables=settings)
    assert told.out.count("collectived would be restarted, for its settings") == 3
    assert controller.play("second run again", "site").changed == 0


def test_what_an_administrator_looks_for_is_there(hosts: Hosts) -> None:
    """Manual, completion, a unit that systemd finds safe, a folder for the daemon alone."""
    hosts.ssh("mgt1", "man -w collective && man -w collectived")
    hosts.ssh("mgt1", "bash -c '. /usr/local/share/bash-completion/completions/collective'")
    fish = "/etc/fish/completions/collective.fish"
    for place in ("/usr/local/share/zsh/site-functions/_collective", fish):
        hosts.ssh("mgt1", f"grep -q 'show --names' {place}")
    hosts.ssh("mgt1", "test $(stat -c %U%a /var/lib/confluent-collective) = confluent700")
    assert hosts.ssh("mgt1", "systemctl is-enabled etcd", check=False).stdout.strip() == "masked"
    found = hosts.ssh("mgt1", "systemd-analyze security collectived --no-pager").stdout
    score = re.search(r"exposure level for \S+: ([0-9.]+)", found)
    assert score is not None
    assert float(score[1]) <= 1.5
    log = hosts.ssh("mgt1", "journalctl -u collectived -p warning -o cat --no-pager").stdout
    assert "Traceback" not in log


def test_one_liner_of_the_manual_works_by_hand(hosts: Hosts, controller: Controller) -> None:
    """As the manual gives it, typed on one host, with ssh to the other."""
    hosts.let_in("mgt1", "mgt3")
    hosts.ssh("mgt1", "collective delete mgt3 --force")
    hosts.wait_active("mgt1", "mgt1", "mgt2")
    said = hosts.ssh("mgt1", "collective invite mgt3 | ssh mgt3 collective join mgt1 -i -")
    assert "Success" in said.stdout
    hosts.wait_active("mgt3", *THREE)
    controller.note("one-liner by hand", said.stdout)


def test_network_that_dropped_packets_is_got_over_under_the_unit(
    hosts: Hosts, controller: Controller
) -> None:
    """The unit lets the daemon end what its etcd waits on; 3.4 of Debian gives that up, too."""
    rule = "INPUT -s 10.99.0.12 -j DROP"
    hosts.ssh("mgt1", f"iptables -I {rule}")
    hosts.ssh("mgt1", f"sleep {_CUT_SECONDS}")
    hosts.ssh("mgt1", f"iptables -D {rule}")
    hosts.wait_active("mgt1", *THREE)
    hosts.wait_active("mgt2", *THREE)
    told = "".join(
        hosts.ssh(name, "journalctl -u collectived -o cat --no-pager").stdout
        for name in ("mgt1", "mgt2")
    )
    assert "a member does not answer" in told
    assert "cannot be helped" not in told
    controller.note("network cut between two of three, and whole again", "got over\n")
