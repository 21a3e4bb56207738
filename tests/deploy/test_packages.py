"""The packages: what is in them, and a server that is installed from each, used and removed."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.deploy.controller import Controller
from tests.deploy.hosts import Hosts
from tools import packages
from tools.rpm import rpm_tool
from tools.steps import run

pytestmark = pytest.mark.root
HOST = "mgt5"
PYTHON = "/usr/bin/python3.11"
_SECONDS = 120.0
#: What an administrator looks for, besides the environment.
EXPECTED = {
    "/usr/bin/collective",
    "/usr/sbin/collectived",
    "/usr/lib/systemd/system/collectived.service",
    "/usr/lib/sysusers.d/confluent-collective.conf",
    "/usr/lib/firewalld/services/confluent-collective.xml",
    "/usr/share/man/man1/collective.1",
    "/usr/share/man/man8/collectived.8",
    "/usr/share/bash-completion/completions/collective",
    "/usr/share/zsh/site-functions/_collective",
    "/usr/share/zsh/vendor-completions/_collective",
    "/usr/share/fish/vendor_completions.d/collective.fish",
    "/usr/share/doc/confluent-collective/copyright",
    "/opt/confluent-collective/current",
}


@pytest.fixture(scope="module")
def wheelhouse(work: Path, bundle: Path) -> Path:
    """The wheels of the bundle, which are for the same Python."""
    shutil.unpack_archive(bundle, work / "packages-from")
    return work / "packages-from/wheels"


@pytest.fixture(scope="module")
def made(work: Path, wheelhouse: Path) -> list[Path]:
    """The .deb and the .rpm, for Debian's Python."""
    return packages.make(work / "packages", PYTHON, wheelhouse)


@pytest.fixture
def fresh(hosts: Hosts) -> Iterator[str]:
    """A host that has nothing of it; it is as new afterwards."""
    yield HOST
    hosts.reinstall(HOST)


def bring(hosts: Hosts, package: Path) -> str:
    """Copy a package to the host, and return where it is there."""
    target = f"root/{package.name}"
    (hosts.root(HOST) / target).write_bytes(package.read_bytes())
    return f"/{target}"


def serves(hosts: Hosts, name: str) -> None:
    """Start the daemon, and see that all that the package brought is of use."""
    hosts.ssh(name, "systemctl enable --now collectived")
    hosts.wait_active(name, name)
    assert hosts.ssh(name, "systemctl is-active etcd", check=False).stdout.strip() == "inactive"
    hosts.ssh(name, "man -w collective && man -w collectived && getent passwd confluent")
    hosts.ssh(name, "bash -c '. /usr/share/bash-completion/completions/collective'")
    found = hosts.ssh(name, "firewall-offline-cmd --info-service=confluent-collective").stdout
    assert "13002/tcp 13003/tcp" in found


def is_gone(hosts: Hosts, name: str) -> None:
    """See that nothing runs and nothing is left but data, settings and user."""
    places = " -o -path ".join(("/proc", "/sys", "/var/lib/confluent-collective", "/root"))
    pruned = rf"\( -path {places} \) -prune"
    known = "! -path '/var/lib/dpkg/*' ! -path '/var/lib/rpm/*' ! -path '/run/*'"
    left = hosts.ssh(name, f"find / {pruned} -o -name '*collective*' {known} -print").stdout
    assert left.split() == []
    assert hosts.ssh(name, "pgrep -a collectived", check=False).stdout == ""
    assert hosts.ssh(name, "test -s /var/lib/confluent-collective/pki/server.pem").returncode == 0


def test_both_hold_the_same_files(made: list[Path]) -> None:
    """One tree: each path with its mode and owner, as dpkg's and rpm's own tools list it."""
    deb, rpm = made
    listed = run(["dpkg-deb", "--contents", str(deb)], _SECONDS).splitlines()
    plain = [line.split(maxsplit=5)[5] for line in listed if not line.startswith("d")]
    in_deb = {name.split(" -> ")[0].removeprefix(".") for name in plain}
    assert {line.split()[1] for line in listed} == {"root/root"}
    tool, environment = rpm_tool("rpm")
    ask = [tool, "--query", "--package", "--nosignature"]
    form = "[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\\n]"
    told = run([*ask, f"--queryformat={form}", str(rpm)], _SECONDS, environment=environment)
    rows = [line.split(maxsplit=2) for line in told.splitlines()]
    assert {owner for _, owner, _ in rows} == {"root/root"}
    assert {path for mode, _, path in rows if not mode.startswith("d")} == in_deb
    assert in_deb >= EXPECTED


def test_rpm_wants_the_python_that_it_was_made_for(made: list[Path]) -> None:
    """By its path, which each distribution has it at; and nothing that a wheel mentions."""
    tool, environment = rpm_tool("rpm")
    ask = [tool, "--query", "--package", "--nosignature", "--requires", str(made[1])]
    needs = run(ask, _SECONDS, environment=environment).splitlines()
    own = {need for need in needs if not need.startswith("rpmlib(")}
    assert own == {"/usr/bin/python3.11", "/bin/sh", "systemd", "util-linux"}


@pytest.mark.slow
def test_packages_made_again_hold_the_same_tree(
    made: list[Path], work: Path, wheelhouse: Path
) -> None:
    """Nothing of the folder or the moment of the build is in them."""
    again = packages.make(work / "packages-again", PYTHON, wheelhouse)
    assert [path.read_bytes() for path in again] == [path.read_bytes() for path in made]


def test_deb_is_installed_used_upgraded_and_removed(
    hosts: Hosts, controller: Controller, made: list[Path], fresh: str
) -> None:
    """As deploy/README.md says; its data stays."""
    path = bring(hosts, made[0])
    hosts.ssh(fresh, "systemctl mask etcd")
    hosts.ssh(fresh, f"apt-get -qq install --yes {path}")
    assert hosts.ssh(fresh, "systemctl is-active collectived", check=False).returncode != 0
    serves(hosts, fresh)
    began = "systemctl show collectived --property=ExecMainStartTimestampMonotonic"
    before = hosts.ssh(fresh, began).stdout
    hosts.ssh(fresh, f"apt-get -qq install --yes --reinstall {path}")
    assert hosts.ssh(fresh, began).stdout != before
    hosts.wait_active(fresh, fresh)
    assert hosts.ssh(fresh, "dpkg --verify confluent-collective").stdout == ""
    said = hosts.ssh(fresh, "apt-get -qq purge --yes confluent-collective").stdout
    assert "its data is still in /var/lib/confluent-collective" in said
    is_gone(hosts, fresh)
    controller.note("deb installed, upgraded, removed", said)


@pytest.mark.slow
def test_rpm_is_installed_used_upgraded_and_removed(
    hosts: Hosts, controller: Controller, made: list[Path], fresh: str
) -> None:
    """By rpm itself, at a host that has its Python; Debian's dpkg knows what it asks for."""
    path = bring(hosts, made[1])
    hosts.ssh(fresh, "systemctl mask etcd && apt-get -qq install --yes rpm etcd-server")
    hosts.ssh(fresh, f"rpm --install --nodeps {path}")
    serves(hosts, fresh)
    assert hosts.ssh(fresh, "rpm --verify --nodeps confluent-collective").stdout == ""
    hosts.ssh(fresh, f"rpm --reinstall --nodeps {path}")
    hosts.wait_active(fresh, fresh)
    said = hosts.ssh(fresh, "rpm --erase confluent-collective").stdout
    assert "its data is still in /var/lib/confluent-collective" in said
    is_gone(hosts, fresh)
    controller.note("rpm installed, upgraded, removed", said)


def test_rpm_is_whole_in_an_empty_root(made: list[Path], work: Path) -> None:
    """Where no host of its own kind can be had: every file is as rpm packed it."""
    tool, environment = rpm_tool("rpm")
    root = work / "empty-root"
    root.mkdir()
    base = [tool, f"--root={root}", "--nodeps"]
    run([*base, "--install", "--noscripts", str(made[1])], _SECONDS, environment=environment)
    verify = [*base, "--verify", "--noscripts", "confluent-collective"]
    assert run(verify, _SECONDS, environment=environment) == ""
    link = root / "opt/confluent-collective/current"
    assert (link / "bin/collectived").is_file()
    (python,) = (link / "bin").glob("python3.*")
    assert str(python.readlink()) == "/usr/bin/python3.11"


@pytest.mark.slow
def test_one_way_of_installing_refuses_the_other(
    hosts: Hosts, controller: Controller, made: list[Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The package where Ansible was, and Ansible where the package is; nothing is changed."""
    unit = "/etc/systemd/system/collectived.service"
    path = bring(hosts, made[0])
    hosts.ssh(HOST, f"echo '[Service]' > {unit}")
    done = hosts.ssh(HOST, f"dpkg --install {path}", check=False)
    assert done.returncode != 0
    assert "collectived was installed here by Ansible or by hand" in done.stderr
    hosts.ssh(HOST, f"rm {unit}; systemctl mask etcd; apt-get -qq install --yes {path}")
    monkeypatch.setattr(controller, "inventory", {HOST: {}})
    said = f"{HOST}: the package confluent-collective is installed there"
    controller.refused("site where the package is", "site", said)
    hosts.reinstall(HOST)
