"""A real Confluent on three hosts: from its built-in collective to ours, and back.

COLLECTIVE_CONFLUENTS names it, as for ``make test-confluent``: the first for Python 3.11, which
the hosts have. It is laid out from its library and programs, with a unit as its packages have one.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.confluent.conftest import VARIABLE, Kind, kinds
from tests.deploy.conftest import THREE
from tests.deploy.controller import Controller
from tests.deploy.hosts import Hosts
from tests.deploy.image import ROOT
from tests.harness import wait_until
from tools import wheels
from tools.steps import run

pytestmark = [pytest.mark.root, pytest.mark.slow]

SECONDS = 90.0
UNIT = """[Unit]
Description=Confluent, for a test

[Service]
Type=notify
NotifyAccess=main
RuntimeDirectory=confluent
CacheDirectory=confluent
LogsDirectory=confluent
ConfigurationDirectory=confluent
ExecStart=/usr/bin/python3 /opt/confluent/bin/confluent -f
AmbientCapabilities=CAP_NET_BIND_SERVICE
User=confluent
Group=confluent

[Install]
WantedBy=multi-user.target
"""


def of_hosts() -> Kind | None:
    """Return a whole Confluent that runs on Debian's Python."""
    for kind in kinds():
        packages = Path(kind.python).parent.parent / "lib/python3.11/site-packages"
        if kind.programs is not None and packages.is_dir():
            return kind
    return None


@pytest.fixture(scope="module")
def wheel(work: Path) -> Path:
    """The adapter, as the controller has it."""
    return wheels.make(ROOT, work / "adapter")


def libraries(root: Path) -> None:
    """Give a host what Confluent opens of the system, and Debian's small image has not."""
    place = Path("usr/lib/x86_64-linux-gnu")
    listed = run(["ldd", str("/" / place / "libarchive.so.13")], SECONDS)
    for name in ["libarchive.so.13", *re.findall(r"^\s*(\S+) => /", listed, re.MULTILINE)]:
        if not (root / place / name).exists() and ("/" / place / name).exists():
            shutil.copy(("/" / place / name).resolve(), root / place / name)


def lay_out(kind: Kind, hosts: Hosts, name: str) -> None:
    """Put a Confluent on a host."""
    root = hosts.root(name)
    assert kind.programs is not None
    shutil.copytree(kind.programs, root / "opt/confluent/bin", dirs_exist_ok=True)
    shutil.copytree(
        kind.library, root / "opt/confluent/lib/python", dirs_exist_ok=True, symlinks=False
    )
    for program in (root / "opt/confluent/bin").iterdir():
        program.chmod(0o755)
    libraries(root)
    packages = Path(kind.python).parent.parent / "lib/python3.11/site-packages"
    shutil.copytree(packages, root / "opt/needs", dirs_exist_ok=True)
    (root / "usr/lib/python3/dist-packages/needs.pth").write_text("/opt/needs\n")
    (root / "etc/systemd/system/confluent.service").write_text(UNIT)
    own = root / "etc/confluent"
    (own / "cfg").mkdir(parents=True, exist_ok=True)
    (own / "cfg/myname").write_text(name)
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:secp384r1"]
    made += ["-nodes", "-days", "30", "-subj", f"/CN={name}", "-keyout", str(own / "privkey.pem")]
    subprocess.run([*made, "-out", str(own / "srvcert.pem")], check=True, capture_output=True)
    hosts.ssh(name, "chown -R confluent: /etc/confluent")
    hosts.ssh(name, "ldconfig; systemctl daemon-reload; systemctl start confluent")


def typed(hosts: Hosts, name: str, line: str) -> str:
    """Type one of Confluent's commands on a host."""
    return hosts.ssh(name, f"python3 /opt/confluent/bin/{line}").stdout


def join_built_in(hosts: Hosts) -> None:
    first, *others = THREE
    for other in others:
        token = typed(hosts, first, f"collective invite {other}").strip()
        typed(hosts, other, f"collective join {hosts.address(first)} -i {token}")
        wait_until(
            lambda o=other: o in typed(hosts, first, "collective show").split("Offline")[0],  # type: ignore[misc]
            SECONDS,
            f"{other} is in the built-in collective",
        )


def test_hosts_are_adopted_and_leave_again(
    hosts: Hosts, controller: Controller, wheel: Path
) -> None:
    """Each play twice: the second time it changes nothing; no attribute is lost."""
    kind = of_hosts()
    if kind is None:
        pytest.skip(f"no whole Confluent of Python 3.11 in {VARIABLE}")
    controller.inventory = {name: {} for name in THREE}
    controller.play("three hosts for Confluent", "site")
    for name in THREE:
        lay_out(kind, hosts, name)
    typed(hosts, "mgt1", "nodegroupdefine rack location.room=north")
    typed(hosts, "mgt1", "nodedefine n[1:9] groups=rack")
    typed(hosts, "mgt1", "nodeattrib n2 secret.hardwaremanagementpassword=hush")
    join_built_in(hosts)
    before = typed(hosts, "mgt1", "nodeattrib n1-n9 all")
    given = {"confluent_wheel": str(wheel)}
    controller.refused("adopt without a wheel", "adopt", "name the adapter")
    controller.play("adopt", "adopt", variables=given)
    for name in THREE:
        assert typed(hosts, name, "nodeattrib n1-n9 all") == before
        assert hosts.ssh(name, "ls -d /etc/confluent/cfg.aside-*").stdout.count("\n") == 1
    assert controller.play("adopt again", "adopt", variables=given).changed == 0
    typed(hosts, "mgt3", "nodeattrib n5 location.room=south")
    wait_until(
        lambda: "south" in typed(hosts, "mgt2", "nodeattrib n5 location.room"),
        SECONDS,
        "it is shared",
    )
    shared = typed(hosts, "mgt3", "nodeattrib n1-n9 all")
    controller.play("leave", "leave", variables=given)
    for name in THREE:
        assert typed(hosts, name, "nodeattrib n1-n9 all") == shared
    shown = typed(hosts, "mgt1", "collective show")
    assert "mgt2" in shown.split("Offline")[0]
    assert "mgt3" in shown.split("Offline")[0]
    assert controller.play("leave again", "leave", variables=given).changed == 0
    typed(hosts, "mgt1", "nodeattrib n6 location.room=later")
    left = "the collective has a configuration of Confluent, and no host runs on it"
    controller.refused("adopt what was left", "adopt", left, variables=given)
    controller.play("adopt anew", "adopt", variables={**given, "confluent_taken": "replace"})
    for name in THREE:
        assert "later" in typed(hosts, name, "nodeattrib n6 location.room")
    for name in THREE:
        hosts.ssh(name, "systemctl disable --now confluent")
