"""Makes the bundle that installs a server without a way out: ``make bundle``.

In it are the package and all that it needs as wheels, for each version of Python that is named,
and, where it is given them, etcd's packages. The role in ``deploy/`` unpacks and installs it, and
so does the installer in it, without Ansible.

    confluent-collective-bundle-VERSION.tar.gz
        README          what to type
        install.sh      the installer, with collectived.service and sysusers.conf beside it
        collection/     the collection, for ansible-galaxy
        licenses/       of all that others have made, with a list
        pip.whl         what installs wheels, since a host may have no pip
        wheels/         the package, and what it needs
        etcd/           etcd's packages, if any
        VERSION         one line
        SHA256SUMS      of all of these, in the form of sha256sum(1)

Invariants:
  * A bundle has its name only when it is whole.
  * Every file in it but the list itself is in SHA256SUMS; the role and the installer refuse one
    that differs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tools import licenses, wheels
from tools.steps import StepError

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = "SHA256SUMS"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

_README = """\
confluent-collective @VERSION@, with all that a server without a way out needs.

By hand, on each server, as root, where this is unpacked (it looks at SHA256SUMS first):
    sh install.sh                       # or: sh install.sh --python /usr/bin/python3.11
    systemctl enable --now collectived
    sh install.sh --remove              # takes the programs away again; data and settings stay

With Ansible, on the controller; the collection's README.md has all of it:
    ansible-galaxy collection install --offline ./collection
    ansible-playbook -i inventory confluent.collective.site \\
        -e collective_source=bundle -e collective_bundle=FILE

licenses/README lists what others have made, and under which licence.
"""
#: What is in ``deploy/`` for others than Ansible.
_NO_COLLECTION = ("install.sh", "packages", "*.tar.gz", ".*", "__pycache__")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make a bundle, and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m tools.bundle", description=__doc__)
    parser.add_argument(
        "--python",
        action="append",
        metavar="X.Y",
        help=f"a version of Python on the servers, once or more (default: {', '.join(PYTHONS)})",
    )
    parser.add_argument("--machine", default=platform.machine(), help="as uname -m tells it")
    parser.add_argument(
        "--etcd", action="append", default=[], type=Path, metavar="FILE", help="a package of etcd"
    )
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="FOLDER")
    given = parser.parse_args(arguments)
    missing = [str(path) for path in given.etcd if not path.is_file()]
    if missing:
        parser.error(f"no such file: {', '.join(missing)}")
    try:
        path = make(ROOT, given.output, given.python or PYTHONS, given.machine, given.etcd)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"error: pip {error.cmd[3]} failed, or took too long: see above", file=sys.stderr)
        return 1
    except StepError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if not given.etcd:
        print(
            "warning: no etcd is in the bundle, so servers need one from elsewhere; its packages "
            "are put in with --etcd FILE",
            file=sys.stderr,
        )
    print(f"{path}\nSHA-256 {sha256(path)}")
    return 0


def make(
    source: Path, output: Path, pythons: Sequence[str], machine: str, etcds: Sequence[Path]
) -> Path:
    """Make a bundle.

    Args:
        source: the tree of the package.
        output: the folder that it goes to.
        pythons: versions such as 3.11.
        machine: such as x86_64.
        etcds: packages of etcd.

    Returns:
        The bundle.

    Raises:
        subprocess.CalledProcessError, subprocess.TimeoutExpired: pip could not get or make
            something.
        StepError: a package of etcd cannot be read.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bundle-", dir=output) as name:
        folder = Path(name)
        package = wheels.build(source, folder / "wheels")
        for python in pythons:
            wheels.download(package, folder / "wheels", python, machine)
        wheels.pip("download", "--no-deps", f"--dest={folder}", "pip")
        (installer,) = folder.glob("pip-*.whl")
        installer.rename(folder / "pip.whl")
        (folder / "etcd").mkdir()
        for etcd in etcds:
            shutil.copy(etcd, folder / "etcd")
        version = package.name.split("-")[1]
        _furnish(folder, source / "deploy", version)
        licenses.write(folder)
        pin(folder)
        return _pack(folder, output / f"confluent-collective-bundle-{version}.tar.gz")


def _furnish(folder: Path, deploy: Path, version: str) -> None:
    """Add what installs it, with Ansible and without."""
    for name in ("install.sh", "collectived.service", "sysusers.conf"):
        shutil.copy(deploy / name, folder)
    # Links are followed: in the role is one to the unit, and a bundle has none.
    left_out = shutil.ignore_patterns(*_NO_COLLECTION)
    shutil.copytree(deploy, folder / "collection", ignore=left_out)
    (folder / "VERSION").write_text(f"{version}\n")
    (folder / "README").write_text(_README.replace("@VERSION@", version))


def pin(folder: Path) -> None:
    """Write down what every file of a folder is to be."""
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    lines = [f"{sha256(path)}  {path.relative_to(folder)}\n" for path in files]
    (folder / MANIFEST).write_text("".join(lines), encoding="utf-8")


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, in hex."""
    digest = hashlib.sha256()
    with path.open("rb") as content:
        while chunk := content.read(1 << 20):
            digest.update(chunk)
    return digest.hexdigest()


def _pack(folder: Path, path: Path) -> Path:
    """Pack a folder; the file has its name when it is whole."""
    part = path.with_suffix(".part")
    with tarfile.open(part, "w:gz") as archive:
        for item in sorted(folder.iterdir()):
            archive.add(item, item.name, filter=_plain)
    os.replace(part, path)
    return path


def _plain(item: tarfile.TarInfo) -> tarfile.TarInfo:
    """Have everything belong to root, and be readable: pip runs as anybody."""
    item.uid = item.gid = 0
    item.uname = item.gname = "root"
    item.mode = 0o755 if item.isdir() else 0o644
    return item


if __name__ == "__main__":
    sys.exit(main())
