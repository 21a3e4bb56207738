"""The licences of what is in a bundle."""

from __future__ import annotations

import zipfile
from email.message import Message
from pathlib import Path

import pytest

from tools import licenses


@pytest.mark.parametrize(
    ("fields", "said"),
    [
        ([("License-Expression", "MIT"), ("License", "other")], "MIT"),
        (
            [("Classifier", "License :: OSI Approved :: MIT License"), ("License", "x")],
            "MIT License",
        ),
        ([("License", "BSD\nRedistribution and use")], "BSD"),
        ([("Classifier", "Programming Language :: Python")], "no licence is named"),
    ],
)
def test_licence_is_what_the_metadata_names(fields: list[tuple[str, str]], said: str) -> None:
    """In each of the ways that there were."""
    package = Message()
    for key, value in fields:
        package[key] = value
    assert licenses.named(package) == said


def wheel(path: Path, name: str, *texts: str) -> None:
    """Make a wheel with nothing in it but its metadata and licences."""
    with zipfile.ZipFile(path, "w") as archive:
        info = f"{name}-1.0.dist-info"
        archive.writestr(f"{info}/METADATA", f"Name: {name}\nVersion: 1.0\nLicense: MIT\n")
        for text in texts:
            archive.writestr(f"{info}/{text}", "the text")


def test_every_wheel_is_listed_with_its_texts(tmp_path: Path) -> None:
    """The installer's too; texts in folders keep them, since there may be two of one name."""
    (tmp_path / "wheels").mkdir()
    (tmp_path / "etcd").mkdir()
    wheel(tmp_path / "wheels/a-1.0-py3-none-any.whl", "a", "LICENSE", "licenses/b/COPYING.txt")
    wheel(tmp_path / "wheels/c-1.0-py3-none-any.whl", "c")
    wheel(tmp_path / "pip.whl", "pip", "licenses/AUTHORS.txt")
    licenses.write(tmp_path)
    listed = (tmp_path / "licenses/README").read_text()
    assert listed.endswith("\n\na-1.0: MIT\nc-1.0: MIT\npip-1.0: MIT\n")
    folder = tmp_path / "licenses"
    texts = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert texts == {"README", "a-1.0/LICENSE", "a-1.0/licenses/b/COPYING.txt"}
