"""Writes down under which licence each thing in a bundle is that others have made.

Invariants:
  * Each wheel and each package of Debian in it is in the list; what names no licence is listed as
    such.
"""

from __future__ import annotations

import re
import tempfile
import zipfile
from email.message import Message
from pathlib import Path

from tools import wheels
from tools.steps import UNPACK_SECONDS, run

FOLDER = "licenses"
_TEXT = re.compile(r"[^/]+\.dist-info/(?:.+/)?(?:licen[cs]e|copying|notice)[^/]*", re.IGNORECASE)
_CLASSIFIER = re.compile(r"License :: (?:OSI Approved :: )?(.+)")
HEAD = """\
What others have made, and under which licence; the texts are in their own folders.
The wheels of cryptography hold OpenSSL too (Apache-2.0), and libraries of Rust that its
source names.

"""


def write(folder: Path) -> None:
    """Make the list of a bundle, and the folders of texts.

    Args:
        folder: of the bundle.

    Raises:
        StepError: a package of Debian cannot be read.
    """
    target = folder / FOLDER
    target.mkdir()
    own = [*(folder / "wheels").glob("*.whl"), folder / "pip.whl"]
    for path in own:
        _copy_texts(path, target)
    lines = [line(path) for path in own]
    lines += [_package(path, target) for path in (folder / "etcd").iterdir()]
    (target / "README").write_text(HEAD + "".join(sorted(set(lines))), encoding="utf-8")


def named(package: Message) -> str:
    """Return the licence that a wheel's metadata names (core metadata, PEP 639 and before)."""
    expression = package["License-Expression"]
    if expression:
        return str(expression)
    classifiers = map(_CLASSIFIER.fullmatch, package.get_all("Classifier") or [])
    found = [match[1] for match in classifiers if match]
    # Some have the whole text in this field.
    first = str(package["License"] or "").strip().split("\n")[0]
    return ", ".join(found) or first or "no licence is named"


def line(wheel: Path) -> str:
    """Return the line of a wheel in the list."""
    package = wheels.metadata(wheel)
    return f"{_name(package)}: {named(package)}\n"


def _name(package: Message) -> str:
    return f"{package['Name']}-{package['Version']}"


def _copy_texts(path: Path, target: Path) -> None:
    name = _name(wheels.metadata(path))
    with zipfile.ZipFile(path) as archive:
        for text in filter(_TEXT.fullmatch, archive.namelist()):
            # Without the folder that they all have.
            copy = target / name / text.partition("/")[2]
            copy.parent.mkdir(parents=True, exist_ok=True)
            copy.write_bytes(archive.read(text))


def _package(path: Path, target: Path) -> str:
    """List a package of etcd; that of another distribution has its licence in it."""
    if path.suffix != ".deb":
        return f"{path.name}: see 'rpm --query --package --licensefiles {path.name}'\n"
    with tempfile.TemporaryDirectory(prefix="license-", dir=target) as name:
        run(["dpkg-deb", "-x", str(path), name], UNPACK_SECONDS)
        for text in Path(name).glob("usr/share/doc/*/copyright"):
            (target / path.stem).mkdir(exist_ok=True)
            (target / path.stem / "copyright").write_bytes(text.read_bytes())
    return f"{path.name}: see {path.stem}/copyright\n"
