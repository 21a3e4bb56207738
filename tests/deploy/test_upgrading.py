"""A collective of three goes to the next build of the package and the next etcd."""

from __future__ import annotations

import hashlib
import tarfile
from pathlib import Path

import pytest

from tests.deploy.conftest import NEWER, THREE
from tests.deploy.controller import Controller
from tests.deploy.hosts import Hosts
from tests.deploy.writers import Writers
from tools import etcd_versions

pytestmark = pytest.mark.root
ETCD = "3.5.16"
#: No longer is nobody to answer writes. A server that is restarted answers none meanwhile.
GAP_SECONDS = 1.0


@pytest.fixture(scope="module")
def archive(work: Path) -> Path:
    """An etcd in the form of its release archives."""
    reasons = etcd_versions.fetch()
    program = etcd_versions.NEWER / "usr/bin/etcd"
    if not program.exists():
        pytest.skip(f"no newer etcd: {'; '.join(reasons)}")
    path = work / f"etcd-v{ETCD}-linux-amd64.tar.gz"
    with tarfile.open(path, "w:gz", compresslevel=1) as packed:
        packed.add(program, f"etcd-v{ETCD}-linux-amd64/etcd")
    return path


@pytest.fixture(scope="module")
def newer(newer_bundle: Path, archive: Path) -> dict[str, object]:
    """What the inventory says afterwards."""
    return {
        "collective_bundle": str(newer_bundle),
        "collective_etcd_source": "archive",
        "collective_etcd_archive": str(archive),
        "collective_etcd_archive_sha256": hashlib.sha256(archive.read_bytes()).hexdigest(),
    }


def test_archive_with_another_sum_is_refused(
    controller: Controller, newer: dict[str, object]
) -> None:
    """Before it is brought to any host."""
    wrong = {**newer, "collective_etcd_archive_sha256": "0" * 64}
    controller.refused("archive with another sum", "upgrade", "has the SHA-256", variables=wrong)


def test_rolling_upgrade_under_writers(
    hosts: Hosts, controller: Controller, newer: dict[str, object]
) -> None:
    """No acknowledged write is lost, and none waits for long."""
    assert {m["etcd_version"] for m in hosts.show("mgt1")["members"]} == {"3.4.23"}
    with Writers(hosts, THREE) as writers:
        controller.play("upgrade", "upgrade", variables=newer)
    members = hosts.show("mgt1")["members"]
    assert {m["release"] for m in members} == {NEWER}
    assert {m["etcd_version"] for m in members} == {ETCD}
    own = ", ".join(f"{name} {gap:.1f}" for name, gap in writers.own_gaps.items())
    figures = f"{len(writers.keys)} writes, longest gap {writers.longest_gap:.3f} s; {own} s\n"
    print(f"upgrade: {figures}")
    controller.note("writes during the upgrade", figures)
    for name in THREE:
        assert not writers.lost(name)
    assert writers.longest_gap < GAP_SECONDS
    assert controller.play("upgrade, second run", "upgrade", variables=newer).changed == 0


def test_way_back_to_an_older_etcd_is_refused(
    hosts: Hosts, controller: Controller, newer: dict[str, object]
) -> None:
    """An inventory that has forgotten the newer etcd stops no daemon."""
    forgotten = {"collective_bundle": newer["collective_bundle"]}
    played = controller.play("older etcd", "site", variables=forgotten, check=False)
    assert played.code != 0
    assert "older than the members' etcd 3.5.16" in played.failures
    for name in THREE:
        hosts.power_off(name)
    for name in THREE:
        hosts.boot(name)
    for name in THREE:
        hosts.wait_for(name)
    hosts.wait_active("mgt1", *THREE)
    controller.play("newer etcd again", "site", variables=newer)
    hosts.wait_active("mgt1", *THREE)
