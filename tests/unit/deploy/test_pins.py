"""A bundle of which a file is not as it was made is not used."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Callable
from pathlib import Path

import pytest

from deploy.plugins.module_utils import pins
from tools.bundle import MANIFEST, pin, sha256

WHEEL = "wheels/h11-0.16.0-py3-none-any.whl"
ETCD = "etcd/etcd-server_3.4.23-4_amd64.deb"


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A bundle as it is unpacked on a host, pinned by what makes it."""
    folder = tmp_path / "bundle"
    for name in (WHEEL, ETCD, "pip.whl", "VERSION"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)
    pin(folder)
    (folder / pins.MARK).touch()
    return folder


def packed(folder: Path) -> Path:
    """Pack a folder as a bundle is packed."""
    path = folder.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        for item in sorted(folder.iterdir()):
            if item.name != pins.MARK:
                archive.add(item, item.name)
    return path


def both(folder: Path) -> list[str]:
    """Return what is wrong with a folder, which is what is wrong with it when it is packed."""
    found = pins.problems(str(folder))
    assert pins.problems(str(packed(folder))) == found
    return found


def test_bundle_as_it_was_made_is_good(bundle: Path) -> None:
    """On the controller and on a host."""
    assert both(bundle) == []


@pytest.mark.parametrize("name", [WHEEL, ETCD, "pip.whl"])
def test_file_that_differs_is_named_with_both_sums(bundle: Path, name: str) -> None:
    """Wheels, packages of etcd and the installer itself."""
    expected = sha256(bundle / name)
    (bundle / name).write_text("evil")
    assert both(bundle) == [f"{name} has the SHA-256 {sha256(bundle / name)}, expected {expected}"]


def test_file_that_is_missing_is_named(bundle: Path) -> None:
    """It was there when the bundle was made."""
    expected = sha256(bundle / WHEEL)
    (bundle / WHEEL).unlink()
    assert both(bundle) == [f"{WHEEL} is missing, expected with the SHA-256 {expected}"]


def test_file_that_is_not_listed_is_named(bundle: Path) -> None:
    """Pip would take a newer wheel that somebody has put beside the others."""
    (bundle / "wheels/h11-9.whl").touch()
    assert both(bundle) == [f"wheels/h11-9.whl is there, and {MANIFEST} does not name it"]


def test_link_is_no_file(bundle: Path) -> None:
    """What it leads to can change after it was looked at."""
    (bundle / "elsewhere").write_text(WHEEL)
    (bundle / WHEEL).unlink()
    (bundle / WHEEL).symlink_to("../elsewhere")
    found = both(bundle)
    assert found[0].startswith(f"{WHEEL} is no plain file, expected one with the SHA-256 ")


def test_name_that_is_in_an_archive_twice_is_no_file(bundle: Path) -> None:
    """The last one would be unpacked, and the first one looked at."""
    path = bundle.with_suffix(".tar.gz")
    with tarfile.open(path, "w:gz") as archive:
        for item in sorted(bundle.rglob("*")):
            if item.is_file() and item.name != pins.MARK:
                archive.add(item, str(item.relative_to(bundle)))
        more = tarfile.TarInfo(WHEEL)
        more.size = 4
        archive.addfile(more, io.BytesIO(b"evil"))
    (found,) = pins.problems(str(path))
    assert found.startswith(f"{WHEEL} is no plain file")


def emptied(folder: Path) -> None:
    (folder / MANIFEST).unlink()


def scrambled(folder: Path) -> None:
    (folder / MANIFEST).write_text("0123  wheels/a.whl\n")


def outside(folder: Path) -> None:
    (folder / MANIFEST).write_text(f"{'0' * 64}  ../passwd\n")


@pytest.mark.parametrize(
    ("change", "said"),
    [
        (emptied, "there is no SHA256SUMS in it: make it anew"),
        (scrambled, "line 1 of SHA256SUMS has no SHA-256 and path"),
        (outside, "line 1 of SHA256SUMS names ../passwd, outside"),
    ],
)
def test_bundle_without_a_good_list_is_not_looked_into(
    bundle: Path, change: Callable[[Path], None], said: str
) -> None:
    """There is nothing to compare with."""
    change(bundle)
    for path in (bundle, packed(bundle)):
        with pytest.raises(pins.PinError, match=said):
            pins.problems(str(path))


def test_bundle_that_is_cut_off_cannot_be_read(bundle: Path) -> None:
    """A copy that was broken off is not taken for a bundle with less in it."""
    path = packed(bundle)
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises((EOFError, OSError, tarfile.TarError)):
        pins.problems(str(path))
