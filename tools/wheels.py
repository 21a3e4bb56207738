"""Gets the package and all that it needs as wheels, for a Python that need not be here.

``make adapter`` makes the package's own alone: it holds the adapter for Confluent and the API that
this needs, for Confluent's interpreter, of Python 3.9 or later, and needs no other package there.

Invariants:
  * Nothing is built on this machine but the package itself, which has no part that is compiled:
    what runs on its own C library alone is in no wheel.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterable, Sequence
from email import message_from_bytes
from email.message import Message
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).resolve().parent.parent
_SECONDS = 600
# The oldest C library of the distributions that the role knows is newer than both.
_PLATFORMS = ("manylinux2014", "manylinux_2_28")


def main(arguments: Sequence[str] | None = None) -> int:
    """Make the wheel of the package, and say where it is."""
    parser = argparse.ArgumentParser(prog="python -m tools.wheels")
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="FOLDER")
    given = parser.parse_args(arguments)
    try:
        print(make(ROOT, given.output.absolute()))
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        print("error: pip wheel failed, or took too long: see above", file=sys.stderr)
        return 1
    return 0


def make(source: Path, output: Path) -> Path:
    """Make the wheel of the package in a folder that may hold others; return its path.

    Raises:
        subprocess.CalledProcessError, subprocess.TimeoutExpired: pip could not.
    """
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="wheel-", dir=output) as name:
        made = build(source, Path(name) / "made")
        return made.replace(output / made.name)


def build(source: Path, wheels: Path) -> Path:
    """Make the wheel of the package, in a folder that is empty or not there.

    Args:
        source: the tree of the package.
        wheels: the folder.

    Raises:
        subprocess.CalledProcessError, subprocess.TimeoutExpired: pip could not.
    """
    pip("wheel", "--no-deps", f"--wheel-dir={wheels}", str(source))
    (package,) = wheels.iterdir()
    return package


def download(package: Path, wheels: Path, python: str, machine: str) -> None:
    """Get what the package needs on a Python.

    pip reads the conditions of requirements for the Python that it runs on itself, so that what
    only another one needs has to be asked for by name.

    Args:
        package: its wheel.
        wheels: where it and the others are.
        python: version such as 3.11.
        machine: such as x86_64.

    Raises:
        subprocess.CalledProcessError, subprocess.TimeoutExpired: pip could not.
    """
    platforms = [f"--platform={name}_{machine}" for name in _PLATFORMS]
    options = ["--only-binary=:all:", f"--python-version={python}", *platforms]
    asked: set[str] = set()
    wanted = [str(package)]
    while wanted:
        pip("download", *options, f"--dest={wheels}", *wanted)
        asked.update(wanted)
        wanted = [
            text for text in missing(map(metadata, wheels.iterdir()), python) if text not in asked
        ]


def missing(packages: Iterable[Message], python: str) -> list[str]:
    """Return the requirements that packages have on a Python, and that none of them is.

    Args:
        packages: the metadata of each (core metadata, PEP 566).
        python: such as 3.10.
    """
    packages = list(packages)
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


def metadata(wheel: Path) -> Message:
    """Return the metadata of a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        # At the top: some packages hold copies of others.
        (name,) = (n for n in archive.namelist() if re.fullmatch(r"[^/]+\.dist-info/METADATA", n))
        return message_from_bytes(archive.read(name))


def pip(*arguments: str) -> None:
    """Run a command of pip, without its own talk.

    Raises:
        subprocess.CalledProcessError, subprocess.TimeoutExpired: it failed.
    """
    command = [sys.executable, "-m", "pip", arguments[0], "--quiet"]
    subprocess.run([*command, *arguments[1:]], check=True, timeout=_SECONDS)


if __name__ == "__main__":
    sys.exit(main())
