"""The collection as Ansible's own tools see it; no host is needed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

from tests.deploy.image import CACHE, ROOT
from tools.steps import run

PROGRAMS = Path(sys.executable).parent
_SECONDS = 400.0
# ansible-test wants the licence of Ansible's own modules. These are under that of this project,
# and import of Ansible what it has under the BSD licence for that.
_IGNORED = "plugins/modules/{} validate-modules:missing-gplv3-license\n"
# It makes environments, and would download what installs pip in them.
_GET_PIP = """
import subprocess, sys
subprocess.run([sys.executable, "-m", "ensurepip"], check=True)
packages = [word for word in sys.argv[1:] if not word.startswith("-")]
subprocess.run([sys.executable, "-m", "pip", "install", "--quiet", *packages], check=True)
"""


def test_lint(collections: Path) -> None:
    """With the profile that Ansible's own collections must keep."""
    environment = {
        **os.environ,
        "PATH": f"{PROGRAMS}:{os.environ['PATH']}",
        "ANSIBLE_COLLECTIONS_PATH": str(collections),
    }
    command = [str(PROGRAMS / "ansible-lint"), "--offline", "--profile", "production", "--strict"]
    run(command, _SECONDS, ROOT / "deploy", environment)


@pytest.mark.slow
def test_sanity(collections: Path, work: Path) -> None:
    """All that runs without Ansible's own servers; nothing here is PowerShell."""
    tree = work / "sanity" / "ansible_collections" / "confluent" / "collective"
    shutil.copytree(collections / "ansible_collections" / "confluent" / "collective", tree)
    version = ".".join(metadata.version("ansible-core").split(".")[:2])
    ignored = tree / "tests" / "sanity" / f"ignore-{version}.txt"
    ignored.parent.mkdir(parents=True)
    modules = sorted(path.name for path in (tree / "plugins" / "modules").glob("*.py"))
    ignored.write_text("".join(_IGNORED.format(name) for name in modules))
    # It looks at what git lists.
    run(["git", "init", "--quiet"], _SECONDS, tree)
    run(["git", "add", "--all"], _SECONDS, tree)
    home = work / "sanity-home"
    cache = home / ".ansible" / "test" / "cache"
    cache.mkdir(parents=True)
    for pip in ("23_1_2", "24_2", "25_0_1", "26_0_1"):
        (cache / f"get_pip_{pip}.py").write_text(_GET_PIP)
    python = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = [str(PROGRAMS / "ansible-test"), "sanity", "--python", python, "--color", "no"]
    environment = {**os.environ, "HOME": str(home)}
    with (CACHE / "sanity.log").open("w+") as log:
        skip = ("--skip-test", "pslint")
        done = subprocess.run(
            [*command, *skip], cwd=tree, env=environment, stdout=log, stderr=log, timeout=_SECONDS
        )
        log.seek(0)
        lines = list(log)
    found = [line for line in lines if line.startswith(("ERROR", "FATAL"))]
    assert any("validate-modules" in line for line in lines)
    assert done.returncode == 0, "".join(found)
