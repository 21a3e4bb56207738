"""What the installer without Ansible has in common with the role."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import yaml

DEPLOY = Path(__file__).resolve().parents[3] / "deploy"
INSTALLER = DEPLOY / "install.sh"
ROLE = DEPLOY / "roles" / "collective"


def variables(name: str) -> dict[str, object]:
    """Return the variables of a file of the role."""
    found: dict[str, object] = yaml.safe_load((ROLE / name / "main.yml").read_text())
    return found


def test_links_and_folder_are_those_of_the_role() -> None:
    """Else site.yml would find something else there than it puts there."""
    text = INSTALLER.read_text()
    found = re.search(r'^LINKS="([^"]*)"', text, re.MULTILINE)
    assert found is not None
    links = [dict(zip(("src", "dest"), line.split("="), strict=True)) for line in found[1].split()]
    assert links == variables("vars")["collective_links"]
    assert f"PREFIX={variables('defaults')['collective_prefix']}\n" in text


def test_unit_runs_what_the_installer_puts_there() -> None:
    """Unit and installer agree on the folder."""
    unit = (DEPLOY / "collectived.service").read_text()
    assert "ExecStart=/opt/confluent-collective/current/bin/collectived\n" in unit


def test_wrong_option_is_refused_with_those_there_are() -> None:
    """Before anything is looked at or changed."""
    command = ["sh", str(INSTALLER), "--upgrade"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr == (
        "install.sh: error: --upgrade is no option of this\n"
        "install.sh: hint: there are --python PROGRAM and --remove\n"
    )
