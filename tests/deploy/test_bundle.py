"""The bundle without Ansible: its installer at a host that has no way out, and what is in it."""

from __future__ import annotations

import os
import shutil
import sys
from pathlib import Path

import pytest

from tests.deploy.controller import Controller
from tests.deploy.hosts import Hosts
from tools.steps import run

pytestmark = pytest.mark.root
HOST = "mgt5"
FOLDER = "/root/bundle"
_SECONDS = 120.0


def test_collection_in_the_bundle_is_installed_as_it_says(bundle: Path, work: Path) -> None:
    """With the command of its README; no server of Ansible's is asked."""
    folder = work / "unpacked"
    shutil.unpack_archive(bundle, folder)
    lines = (folder / "README").read_text().splitlines()
    (line,) = (line.split() for line in lines if "ansible-galaxy" in line)
    target = work / "galaxy"
    environment = {**os.environ, "HOME": str(work), "ANSIBLE_COLLECTIONS_PATH": str(target)}
    program = str(Path(sys.executable).parent / line[0])
    run([program, *line[1:]], _SECONDS, folder, environment)
    installed = target / "ansible_collections/confluent/collective"
    assert (installed / "playbooks/site.yml").is_file()
    assert (installed / "roles/collective/files/collectived.service").is_file()
    assert not (installed / "install.sh").exists()
    listed = (folder / "licenses/README").read_text()
    assert "cryptography-" in listed
    assert "etcd-server_" in listed


@pytest.mark.slow
def test_installer_of_the_bundle_needs_no_ansible(
    hosts: Hosts, controller: Controller, bundle: Path
) -> None:
    """It refuses what was changed, brings etcd, installs again beside, and takes it all away."""
    folder = hosts.root(HOST) / FOLDER[1:]
    shutil.unpack_archive(bundle, folder)
    (folder / "wheels/more-9-py3-none-any.whl").write_bytes(b"")
    refused(hosts, "the bundle has files that SHA256SUMS does not name")
    (folder / "wheels/more-9-py3-none-any.whl").unlink()
    with (folder / "VERSION").open("a") as version:
        version.write("changed\n")
    refused(hosts, "the bundle is not as it was made")
    shutil.unpack_archive(bundle, folder)
    said = hosts.ssh(HOST, f"sh {FOLDER}/install.sh").stdout
    hosts.ssh(HOST, "systemctl enable --now collectived")
    hosts.wait_active(HOST, HOST)
    assert hosts.ssh(HOST, "systemctl is-enabled etcd", check=False).stdout.strip() == "masked"
    again = hosts.ssh(HOST, f"sh {FOLDER}/install.sh").stdout
    assert "collectived still runs the release of before" in again
    hosts.ssh(HOST, "systemctl restart collectived")
    hosts.wait_active(HOST, HOST)
    hosts.ssh(HOST, f"sh {FOLDER}/install.sh --remove")
    assert hosts.ssh(HOST, "command -v collective", check=False).returncode != 0
    controller.note("bundle without Ansible", said + again)
    hosts.reinstall(HOST)


def refused(hosts: Hosts, said: str) -> None:
    """See that the installer changes nothing, and says why."""
    done = hosts.ssh(HOST, f"sh {FOLDER}/install.sh", check=False)
    assert done.returncode == 1
    assert said in done.stderr
    assert hosts.ssh(HOST, "test -e /opt/confluent-collective", check=False).returncode != 0
