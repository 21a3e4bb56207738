"""Makes the bundle that installs a server without a way out: ``make bundle``.

In it are the package and all that it needs as wheels, for each version of Python that is named,
and, where it is given them, etcd's packages. The role in ``deploy/`` unpacks and installs it; the
unit, the settings and the rest are the role's own.

    confluent-collective-bundle-VERSION.tar.gz
        pip.whl         the installer, since a host may have none
        wheels/         the package, and what it needs
        etcd/           etcd's packages, if any
        VERSION         one line
        SHA256SUMS      of all of these, in the form of sha256sum(1)

Invariants:
  * A bundle has its name only when it is whole.
  * Every file in it but the list itself is in SHA256SUMS; the role refuses one that differs.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import platform
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from email import message_from_bytes
from email.message import Message
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
MANIFEST = "SHA256SUMS"
PYTHONS = ("3.10", "3.11", "3.12", "3.13")

_SECONDS = 600
# The oldest C library of the distributions that the role knows is newer than both.
_PLATFORMS = ("manylinux2014", "manylinux_2_28")


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
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="bundle-", dir=output) as name:
        folder = Path(name)
        wheels = folder / "wheels"
        _pip("wheel", "--no-deps", f"--wheel-dir={wheels}", str(source))
        (package,) = wheels.iterdir()
        for python in pythons:
            _download(package, wheels, python, machine)
        _pip("download", "--no-deps", f"--dest={folder}", "pip")
        (installer,) = folder.glob("pip-*.whl")
        installer.rename(folder / "pip.whl")
        version = package.name.split("-")[1]
        (folder / "VERSION").write_text(f"{version}\n")
        (folder / "etcd").mkdir()
        for etcd in etcds:
            shutil.copy(etcd, folder / "etcd")
        pin(folder)
        return _pack(folder, output / f"confluent-collective-bundle-{version}.tar.gz")


def _download(package: Path, wheels: Path, python: str, machine: str) -> None:
    """Get what the package needs on a Python.

    pip reads the conditions of requirements for the Python that it runs on itself, so that what
    only another one needs has to be asked for by name.
    """
    platforms = [f"--platform={name}_{machine}" for name in _PLATFORMS]
    options = ["--only-binary=:all:", f"--python-version={python}", *platforms]
    asked: set[str] = set()
    wanted = [str(package)]
    while wanted:
        _pip("download", *options, f"--dest={wheels}", *wanted)
        asked.update(wanted)
        wanted = [
            text for text in missing(map(_metadata, wheels.iterdir()), python) if text not in asked
        ]


def missing(metadata: Iterable[Message], python: str) -> list[str]:
    """Return the requirements that packages have on a Python, and that none of them is.

    Args:
        metadata: of the packages (core metadata, PEP 566).
        python: such as 3.10.
    """
    packages = list(metadata)
    there = {canonicalize_name(package["Name"]) for package in packages}
    where = {"python_version": python, "python_full_version": f"{python}.0", "extra": ""}
    found = set()
    for package in packages:
        for text in package.get_all("Requires-Dist") or []:
            need = Requirement(text)
            applies = need.marker is None or need.marker.evaluate(where)
            if applies and canonicalize_name(need.name) not in there:
                found.add(f"{need.name}{need.specifier}")
    return sorted(found)


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


def _metadata(wheel: Path) -> Message:
    with zipfile.ZipFile(wheel) as archive:
        # At the top: some packages hold copies of others.
        (name,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        return message_from_bytes(archive.read(name))


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", arguments[0], "--quiet"]
    subprocess.run([*command, *arguments[1:]], check=True, timeout=_SECONDS)


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
