"""etcd's data on a disk of its own: ``var/etcd`` is a link, or a mount point (patroni 412).

Neither can be moved aside. A mount is made in a mount namespace of each daemon, and ends with it.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from collective.errors import RefusedError
from tests.harness import Cluster, Server, temporary_folder, wait_until
from tests.harness.trouble import assert_explained, one_etcd, settle
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

SECONDS = 30.0
BIND = 'mount --bind "$1" "$2" && shift 2 && exec "$@"'
MEMORY = Path("/dev/shm")


@pytest.fixture
def etcd() -> Etcd:
    """One version is enough: its data is moved while it does not run."""
    return one_etcd()


@pytest.fixture
def other_disk() -> Iterator[Path]:
    """A folder on another file system than that of the servers, where there is one."""
    with temporary_folder(MEMORY if os.access(MEMORY, os.W_OK) else None) as folder:
        yield folder


@dataclass
class Disk:
    """Where the data of a server's etcd really is."""

    place: Path

    def holds(self) -> list[str]:
        """Return what is there, but for what was set aside."""
        return sorted(path.name for path in self.place.iterdir() if path.name != "set-aside")

    def aside(self, reason: str) -> list[Path]:
        return list(self.place.glob(f"set-aside/*-{reason}/etcd/member/wal"))


def give_disk(server: Server, kind: str, folder: Path) -> Disk:
    """Have a server that is not started find a link or a mount point where etcd's data goes."""
    place = folder / "disk"
    (place / "lost+found").mkdir(parents=True)
    path = Path(server.layout.etcd_data)
    path.parent.mkdir(exist_ok=True)
    if kind == "link":
        path.symlink_to(place)
        return Disk(place)
    if os.geteuid() != 0 or shutil.which("unshare") is None:
        pytest.skip("only root with unshare can mount a folder")
    path.mkdir()
    server.prefix = ("unshare", "-m", "sh", "-c", BIND, "sh", str(place), str(path))
    done = subprocess.run([*server.prefix, "true"], capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount here: {done.stderr.strip()}")
    return Disk(place)


@pytest.mark.parametrize("kind", ["link", pytest.param("mount", marks=pytest.mark.root)])
def test_patroni_412_data_of_etcd_on_a_disk_of_its_own_stays_there(
    cluster: Cluster, other_disk: Path, kind: str
) -> None:
    """A fresh start, a join, a deletion and a join again: what is in it is moved, on its disk."""
    (mgt1,) = cluster.add_running(1)
    mgt2 = cluster.add()
    disk = give_disk(mgt2, kind, other_disk)
    mgt2.start()
    mgt2.wait_for_quorum()
    settle(mgt2)
    assert disk.holds() == ["lost+found", "member"]

    checked = mgt2.run("join", "--check", mgt1.door_name)
    assert "can be moved aside" in checked.out
    cluster.join(mgt2, mgt1)
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2])
    assert disk.holds() == ["lost+found", "member"]
    assert len(disk.aside("before-join")) == 1
    mgt2.restart()
    cluster.wait_until_all_active(mgt2, [mgt1, mgt2])

    mgt1.run("delete", "mgt2", "--force", check=True)
    wait_until(lambda: mgt2.is_removed, SECONDS, "mgt2 rests")
    assert disk.holds() == ["lost+found"]
    (place,) = disk.aside("removed")
    # By the path that an administrator knows.
    told = f"{mgt2.layout.etcd_data}/set-aside/{place.parents[2].name}/etcd"
    assert told in mgt2.run("show").err
    cluster.join(mgt2, mgt1)
    cluster.wait_until_all_active(mgt1, [mgt1, mgt2])
    assert Path(mgt2.layout.etcd_data).is_symlink() is (kind == "link")


def test_link_in_place_of_certificates_is_found_before_a_join(
    cluster: Cluster, other_disk: Path
) -> None:
    """They are replaced as a whole folder: nothing is claimed, and the link is what it was."""
    mgt1, mgt2 = cluster.add_running(2)
    settle(mgt2)
    mgt2.stop()
    path = Path(mgt2.layout.pki)
    shutil.move(path, other_disk / "pki")
    path.symlink_to(other_disk / "pki")
    mgt2.start()
    mgt2.wait_for_quorum()
    token = mgt1.run("invite", "mgt2", check=True).out
    refused = mgt2.run("join", mgt1.door_name, "-i", "-", input=token)
    assert refused.code == RefusedError.exit_code
    assert_explained(refused.err, str(path), "plain folder")
    assert path.is_symlink()
    mgt2.stop()
    path.unlink()
    shutil.move(other_disk / "pki", path)
    mgt2.start()
    mgt2.wait_for_quorum()
    mgt2.run("join", mgt1.door_name, "-i", "-", input=token, check=True)


def test_link_that_leads_nowhere_is_named_at_a_fresh_start(cluster: Cluster) -> None:
    """For the certificates; for the data of etcd, etcd says it."""
    mgt1 = cluster.add()
    path = Path(mgt1.layout.pki)
    path.parent.mkdir()
    path.symlink_to(path.with_name("nowhere"))
    result = mgt1.run_daemon()
    assert result.code == RefusedError.exit_code
    assert_explained(result.err, str(path), "plain folder")
    path.unlink()
    mgt1.start()
    mgt1.wait_for_quorum()
