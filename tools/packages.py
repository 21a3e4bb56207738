"""Makes a .deb and an .rpm that lay a server out as the role does: ``make packages``.

Both pack one tree: an environment of Python under /opt, made for the Python that is named, which
has to be on this machine and, under the same path, on the servers; unit, user, manual pages,
completion, firewalld's service, and scripts that both have in common (``deploy/packages``).

    confluent-collective_VERSION-1+py3.11_amd64.deb
    confluent-collective-VERSION-1.py3.11.x86_64.rpm

Invariants:
  * A package has its name only when it is whole.
  * Nothing in it knows the folder that it was made in, or the moment: the same wheels make the
    same tree.
  * The compiled files are there from the beginning, so that nothing is left behind at the end.
"""

from __future__ import annotations

import argparse
import base64
import csv
import hashlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path

import yaml

from tools import licenses, manpages, wheels
from tools.rpm import rpm_tool
from tools.steps import StepError, run

ROOT = Path(__file__).resolve().parent.parent
DEPLOY = ROOT / "deploy"
PREFIX = "opt/confluent-collective"
PYTHON = "/usr/bin/python3"
#: What goes in as it is, besides the environment and the links into it.
FILES = {
    "collectived.service": "usr/lib/systemd/system/collectived.service",
    "sysusers.conf": "usr/lib/sysusers.d/confluent-collective.conf",
    "firewalld/confluent-collective.xml": "usr/lib/firewalld/services/confluent-collective.xml",
    # Beside the link in site-functions, where Fedora's zsh looks and Debian's does not.
    "completion/_collective": "usr/share/zsh/vendor-completions/_collective",
}
#: For each script, what dpkg calls it; the spec names them for rpm.
SCRIPTS = {
    "before-install.sh": "preinst",
    "after-install.sh": "postinst",
    "before-remove.sh": "prerm",
    "after-remove.sh": "postrm",
}

_SECONDS = 900.0
_DEBIAN_MACHINES = {"x86_64": "amd64", "aarch64": "arm64"}
_VERSION = "import sys; print('%d.%d' % sys.version_info[:2])"
#: The package, as a wheel's name has it.
_OWN = "confluent_collective"
_DOCS = "usr/share/doc/confluent-collective"


def main(arguments: Sequence[str] | None = None) -> int:
    """Make both packages, and say where they are."""
    parser = argparse.ArgumentParser(prog="python -m tools.packages")
    parser.add_argument(
        "--python",
        default=PYTHON,
        metavar="PROGRAM",
        help=f"of the distribution that the packages are for (default: {PYTHON})",
    )
    parser.add_argument("--output", type=Path, default=ROOT / "dist", metavar="FOLDER")
    given = parser.parse_args(arguments)
    try:
        made = make(given.output.absolute(), given.python)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired) as error:
        print(f"error: pip {error.cmd[3]} failed, or took too long: see above", file=sys.stderr)
        return 1
    except StepError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print("\n".join(map(str, made)))
    return 0


def make(output: Path, program: str, wheelhouse: Path | None = None) -> list[Path]:
    """Make both packages.

    Args:
        output: the folder that they go to.
        program: the Python that they are for.
        wheelhouse: folder of the wheels, such as that of a bundle; made and got now if None.

    Raises:
        subprocess.CalledProcessError, subprocess.TimeoutExpired: pip could not get or make
            something.
        StepError: a tool is missing, or has failed; the text says which.
    """
    rpmbuild, environment = rpm_tool("rpmbuild")
    python = run([program, "-c", _VERSION], _SECONDS).strip()
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="packages-", dir=output) as name:
        folder = Path(name)
        if wheelhouse is None:
            wheelhouse = folder / "wheels"
            wheels.download(wheels.build(ROOT, wheelhouse), wheelhouse, python, platform.machine())
        (package,) = wheelhouse.glob(f"{_OWN}-*.whl")
        values = {
            "VERSION": package.name.split("-")[1],
            "PYTHON": python,
            "MACHINE": platform.machine(),
        }
        tree = folder / "tree"
        lay_out(tree, wheelhouse, program, values)
        return [
            _deb(tree, folder, output, values),
            _rpm(tree, folder, output, values, rpmbuild, environment),
        ]


def lay_out(tree: Path, wheelhouse: Path, program: str, values: Mapping[str, str]) -> None:
    """Lay out all that is to be on a server.

    Args:
        tree: that is made.
        wheelhouse: folder of the wheels.
        program: the Python.
        values: of VERSION and PYTHON.
    """
    release = tree / PREFIX / "releases" / f"{values['VERSION']}-py{values['PYTHON']}"
    _environment(release, tree, wheelhouse, program)
    (tree / PREFIX / "current").symlink_to(f"releases/{release.name}")
    for source, target in FILES.items():
        (tree / target).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(DEPLOY / source, tree / target)
    for source, target in links().items():
        (tree / target).parent.mkdir(parents=True, exist_ok=True)
        (tree / target).symlink_to(f"/{PREFIX}/current/{source}")
    (tree / "etc/confluent").mkdir(parents=True)
    (tree / _DOCS).mkdir(parents=True)
    others = [path for path in wheelhouse.glob("*.whl") if path.name.split("-")[0] != _OWN]
    lines = sorted(map(licenses.line, others))
    text = (ROOT / "LICENSE").read_text() + "\n\n" + licenses.HEAD + "".join(lines)
    (tree / _DOCS / "copyright").write_text(text, encoding="utf-8")
    _compile(release, tree, program)


def links() -> dict[str, str]:
    """Return where in a tree each link into the environment is, by what it leads to.

    They are the role's, with /usr in place of /usr/local; fish looks below /usr, too.
    """
    text = (DEPLOY / "roles/collective/vars/main.yml").read_text(encoding="utf-8")
    own = yaml.safe_load(text)["collective_links"]
    return {
        src: f"usr/{src}" if src.startswith("share/") else dest.replace("/usr/local/", "usr/", 1)
        for src, dest in ((link["src"], link["dest"]) for link in own)
    }


def _environment(release: Path, tree: Path, wheelhouse: Path, program: str) -> None:
    """Make the environment as if the tree were the root of a server."""
    run([program, "-m", "venv", "--without-pip", str(release)], _SECONDS)
    pip = [sys.executable, "-m", "pip", "--python", str(release / "bin/python"), "install"]
    options = ["--quiet", "--no-index", "--no-cache-dir", "--no-compile"]
    run([*pip, *options, f"--find-links={wheelhouse}", "confluent-collective"], _SECONDS)
    for script in (release / "bin").glob("*ctivate*"):
        script.unlink()  # they are for people who work in an environment
    for path in [release / "pyvenv.cfg", *(release / "bin").iterdir()]:
        if not path.is_symlink():
            path.write_text(path.read_text().replace(str(tree), ""))
    for record in release.glob("lib/*/site-packages/*.dist-info/RECORD"):
        _correct(record)
    told = [path for path in _plain_files(tree) if str(tree).encode() in path.read_bytes()]
    if told:
        raise StepError(f"the folder of the build is named in {told[0]}")


def _correct(record: Path) -> None:
    """Have a list of installed files (PEP 376) tell the scripts as they are now."""
    rows = list(csv.reader(record.read_text(encoding="utf-8").splitlines()))
    for row in rows:
        path = record.parent.parent / row[0]
        if path.parent.name == "bin" and row[0].startswith("../"):
            content = path.read_bytes()
            digest = base64.urlsafe_b64encode(hashlib.sha256(content).digest())
            row[1:] = [f"sha256={digest.decode().rstrip('=')}", str(len(content))]
    with record.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(rows)


def _compile(release: Path, tree: Path, program: str) -> None:
    """Compile all of it, after each file has got its moment, which the compiled ones name."""
    for path in [tree, *tree.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.parent.name == "bin" else 0o644)
        os.utime(path, (epoch(), epoch()), follow_symlinks=False)
    words = ["-m", "compileall", "-q", "-s", str(tree), "-p", "/", str(release / "lib")]
    run([program, *words], _SECONDS)
    for path in tree.rglob("__pycache__"):
        for each in (path, *path.iterdir(), path.parent):
            os.utime(each, (epoch(), epoch()))


def epoch() -> int:
    """Return the moment that each file is given: the day that the manual pages name."""
    return int(datetime.fromisoformat(f"{manpages.DATE}T00:00:00+00:00").timestamp())


def _deb(tree: Path, folder: Path, output: Path, values: Mapping[str, str]) -> Path:
    """Pack the tree for dpkg."""
    machine = _DEBIAN_MACHINES.get(values["MACHINE"], values["MACHINE"])
    control = folder / "deb" / "DEBIAN"
    shutil.copytree(tree, folder / "deb", symlinks=True)
    control.mkdir()
    text = filled((DEPLOY / "packages/control").read_text(), {**values, "MACHINE": machine})
    (control / "control").write_text(text)
    for script, called in SCRIPTS.items():
        shutil.copyfile(DEPLOY / "packages" / script, control / called)
        (control / called).chmod(0o755)
    part = folder / "part.deb"
    pack = ["dpkg-deb", "--root-owner-group", "-Zgzip", "--build"]
    run(
        [*pack, str(folder / "deb"), str(part)],
        _SECONDS,
        environment={**os.environ, "SOURCE_DATE_EPOCH": str(epoch())},
    )
    name = f"confluent-collective_{values['VERSION']}-1+py{values['PYTHON']}_{machine}.deb"
    return part.rename(output / name)


def _rpm(
    tree: Path,
    folder: Path,
    output: Path,
    values: Mapping[str, str],
    rpmbuild: str,
    environment: Mapping[str, str],
) -> Path:
    """Pack the tree for rpm."""
    files = folder / "files"
    own = [path for path in sorted(tree.rglob("*")) if _is_owned(path, tree)]
    files.write_text("".join(_listed(path, tree) for path in own))
    scripts = {name: (DEPLOY / "packages" / name).read_text() for name in SCRIPTS}
    spec = folder / "collective.spec"
    text = (DEPLOY / "packages/collective.spec").read_text()
    given = {**values, "STAGE": str(tree), "FILES": str(files), **scripts}
    spec.write_text(filled(text, given))
    define = [f"--define=_topdir {folder / 'rpm'}"]
    moments = {**os.environ, **environment, "SOURCE_DATE_EPOCH": str(epoch())}
    run([rpmbuild, "-bb", "--quiet", *define, str(spec)], _SECONDS, environment=moments)
    (made,) = (folder / "rpm/RPMS").rglob("*.rpm")
    return Path(shutil.move(made, output / made.name))


def filled(text: str, values: Mapping[str, str]) -> str:
    """Return a template with its values."""
    for key, value in values.items():
        text = text.replace(f"@{key}@", value)
    return text


def _is_owned(path: Path, tree: Path) -> bool:
    """Whether a path belongs to the package: not a folder that every system has."""
    inside = path.relative_to(tree)
    if path.is_symlink() or not path.is_dir():
        return True
    return str(inside).startswith((PREFIX, _DOCS, "etc/confluent"))


def _listed(path: Path, tree: Path) -> str:
    """Return the line of a path in rpm's list; a name may have spaces."""
    kind = "%dir " if path.is_dir() and not path.is_symlink() else ""
    return f'{kind}"/{path.relative_to(tree)}"\n'


def _plain_files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and not path.is_symlink()]


if __name__ == "__main__":
    sys.exit(main())
