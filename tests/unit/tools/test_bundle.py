"""What is said of a bundle when it is made."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools import bundle


@pytest.mark.parametrize("etcd", [True, False])
def test_bundle_without_etcd_is_warned_of(
    etcd: bool, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A server without a way out has no other place to get one from."""
    made = tmp_path / "made.tar.gz"
    made.write_bytes(b"")
    package = tmp_path / "etcd.deb"
    package.write_bytes(b"")
    monkeypatch.setattr(bundle, "make", lambda *_: made)
    assert bundle.main(["--etcd", str(package)] if etcd else []) == 0
    said = capsys.readouterr()
    assert said.out.startswith(f"{made}\nSHA-256 ")
    assert ("warning: no etcd is in the bundle" in said.err) is not etcd
