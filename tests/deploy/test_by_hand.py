"""A server without Ansible: the README is typed, site.yml takes it over, it is removed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.controller import Controller
from tests.deploy.hosts import Hosts
from tests.deploy.image import ROOT
from tools.wheels import pip

pytestmark = pytest.mark.root
HOST = "mgt4"
TREE = "/root/collective"
#: The package index of a host without a way out.
PIP = "[global]\nno-index = true\nfind-links = /root/wheels\n"
LEFT_OUT = (".*", "build", "dist", "tests", "*.egg-info", "__pycache__")


def typed() -> tuple[list[str], list[str]]:
    """Return the lines that the README has one type: to install, and to remove it."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    found = re.search(r"^### By hand\n(.*?)^## ", text, re.MULTILINE | re.DOTALL)
    assert found is not None
    install, remove = re.findall(r"(?:^    .*\n)+", found[1], re.MULTILINE)
    return install.splitlines(), remove.splitlines()


@pytest.fixture(scope="module")
def tree(hosts: Hosts, bundle: Path, work: Path) -> Iterator[str]:
    """The source tree on a host that pip has an index for; the host is as new afterwards."""
    wheels = hosts.root(HOST) / "root/wheels"
    shutil.unpack_archive(bundle, work / "by-hand")
    shutil.copytree(work / "by-hand/wheels", wheels)
    needs = re.findall(r'"([^"]+[0-9])"', (ROOT / "pyproject.toml").read_text())
    # All of it runs on any Python; one is published as source alone.
    pip("wheel", f"--wheel-dir={wheels}", *needs)
    (hosts.root(HOST) / "etc/pip.conf").write_text(PIP)
    shutil.copytree(
        ROOT, hosts.root(HOST) / TREE[1:], ignore=shutil.ignore_patterns(*LEFT_OUT), symlinks=True
    )
    yield TREE
    hosts.reinstall(HOST)


def test_readme_typed_by_hand_makes_a_server(
    hosts: Hosts, controller: Controller, tree: str
) -> None:
    """Exactly as it stands there; etcd's own service does not run beside it."""
    said = [hosts.ssh(HOST, f"cd {tree} && {line}").stdout for line in typed()[0]]
    controller.note("by hand", "".join(said))
    assert "Quorum: True" in said[-1]
    assert hosts.ssh(HOST, "systemctl is-active etcd", check=False).stdout.strip() == "inactive"
    hosts.ssh(HOST, "man -w collective && man -w collectived")
    assert hosts.ssh(HOST, "runuser -u confluent -- collective show").returncode == 0


def test_data_of_an_older_release_is_moved_by_the_unit(
    hosts: Hosts, controller: Controller, tree: str
) -> None:
    """Releases up to 0.2 kept it below Confluent's own folder."""
    before = [m["id"] for m in hosts.show(HOST)["members"]]
    hosts.ssh(
        HOST,
        "systemctl stop collectived && cd /var/lib && mkdir -p confluent && "
        "mv confluent-collective confluent/collective && systemctl start collectived",
    )
    hosts.wait_active(HOST, HOST)
    assert [m["id"] for m in hosts.show(HOST)["members"]] == before
    assert hosts.ssh(HOST, "ls /var/lib/confluent").stdout == ""
    hosts.ssh(HOST, "test $(stat -c %U%a /var/lib/confluent-collective) = confluent700")
    hosts.ssh(HOST, "rmdir /var/lib/confluent")


def test_systemd_5394_run_folder_that_vanishes_is_back(
    hosts: Hosts, controller: Controller, tree: str
) -> None:
    """The daemon may not make it; it ends, and systemd makes it and starts it again."""
    hosts.ssh(HOST, "rm -r /run/confluent-collective")
    hosts.wait_active(HOST, HOST)
    controller.note("run folder removed under the daemon", "")


@pytest.mark.slow
def test_site_takes_over_what_was_installed_by_hand(
    hosts: Hosts, controller: Controller, tree: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It keeps its data and what was written into its settings."""
    hosts.ssh(HOST, "echo 'log_level = info' > /etc/confluent/collective.conf")
    before = hosts.show(HOST)["members"]
    monkeypatch.setattr(controller, "inventory", {HOST: {}})
    controller.play("site where it was installed by hand", "site")
    hosts.wait_active(HOST, HOST)
    assert [m["id"] for m in hosts.show(HOST)["members"]] == [m["id"] for m in before]
    assert "info" in hosts.ssh(HOST, "cat /etc/confluent/collective.conf.*~").stdout


def test_removal_of_the_readme_leaves_nothing(
    hosts: Hosts, controller: Controller, tree: str
) -> None:
    """But the user, of which the README says so."""
    for line in typed()[1]:
        hosts.ssh(HOST, f"cd {tree} && {line}")
    own = f"-path {tree} -o -path /proc -o -path /sys -o -path /root/wheels"
    left = hosts.ssh(HOST, rf"find / \( {own} \) -prune -o -name '*collective*' -print")
    assert left.stdout.split() == []
    assert "collective" not in hosts.ssh(HOST, "systemctl list-units --all").stdout


@pytest.mark.slow
def test_site_refuses_what_pip_has_put_elsewhere(
    hosts: Hosts, controller: Controller, tree: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With one sentence, before anything is changed; so does the installer."""
    hosts.ssh(HOST, "touch /usr/local/bin/collective")
    monkeypatch.setattr(controller, "inventory", {HOST: {}})
    said = "/usr/local/bin/collective is there and is no link"
    controller.refused("site where pip installed it", "site", said)
    done = hosts.ssh(HOST, f"sh {tree}/deploy/install.sh", check=False)
    assert done.returncode == 1
    assert "/usr/local/bin/collective is there, and is no link" in done.stderr
