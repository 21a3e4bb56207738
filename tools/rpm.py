"""Finds rpm's tools, or brings Debian's into this folder.

It installs nothing: they are unpacked under ``.cache/``, as etcd is.
"""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path

from tools.steps import StepError, run, unpack

ROOT = Path(__file__).resolve().parent.parent
CACHE = ROOT / ".cache" / "rpm-tools"
_HINT = "install it: apt-get install rpm, or dnf install rpm-build"
_SECONDS = 180.0


def rpm_tool(name: str) -> tuple[str, Mapping[str, str]]:
    """Return a tool of rpm, and what it wants in its environment.

    Args:
        name: such as rpmbuild.

    Raises:
        StepError: it is not here, and cannot be had.
    """
    found = shutil.which(name)
    if found is not None:
        return found, {}
    if not CACHE.is_dir():
        _bring()
    libraries = ":".join(map(str, (CACHE / "usr/lib").glob("*-linux-gnu*")))
    configuration = CACHE / "usr/lib/rpm"
    environment = {"LD_LIBRARY_PATH": libraries, "RPM_CONFIGDIR": str(configuration)}
    return str(CACHE / "usr/bin" / name), environment


def _bring() -> None:
    """Unpack Debian's packages of rpm, and of what it needs that this machine has not."""
    if shutil.which("apt-get") is None:
        raise StepError(f"rpmbuild is not here; {_HINT}")
    CACHE.parent.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="rpm-tools-", dir=CACHE.parent) as name:
        folder = Path(name)
        (folder / "partial").mkdir()
        get = ["apt-get", "-qq", "-oAPT::Sandbox::User=root", f"-oDir::Cache::archives={folder}"]
        get += ["--yes", "--no-install-recommends", "--download-only", "install", "rpm"]
        try:
            try:
                run(get, _SECONDS)
            except StepError:  # lists that are not there, or old
                run(["apt-get", "-qq", "update"], _SECONDS)
                run(get, _SECONDS)
        except StepError as error:
            raise StepError(f"rpmbuild is not here, and {error}; {_HINT}") from error
        unpack(folder, folder / "tree")
        os.rename(folder / "tree", CACHE)
