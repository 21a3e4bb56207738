"""The folder of a server's key and certificate, on a real file system."""

from __future__ import annotations

import os
import ssl
import stat
from contextlib import suppress
from pathlib import Path
from types import ModuleType

import pytest

from collective import pki
from collective.daemon.member import credentials, succession
from collective.daemon.member.credentials import Credentials
from collective.errors import CollectiveError, ProtocolError
from tests.unit.cuts import Killed, killed_at
from tests.unit.identities import identity

ADDRESSES = ["127.0.0.2", "127.0.0.1"]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a fresh server."""
    path = tmp_path / "pki"
    credentials.prepare_fresh(path, "mgt1", ADDRESSES)
    credentials.install(path)
    return path


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_file_is_private(folder: Path) -> None:
    """Folder 0700, files 0600, whatever the umask: keys are in them."""
    made = Credentials(folder)
    made.prepare_next(ADDRESSES)
    made.use_next()
    made.prepare_next(ADDRESSES)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == dict.fromkeys(("server.pem", "next.pem", "succession.json"), 0o600)


def test_fresh_folder_has_one_file_that_fits_together(folder: Path) -> None:
    """Key and certificate, for name and addresses; nothing else is needed to open a door."""
    assert list(files(folder)) == ["server.pem"]
    made = Credentials(folder)
    assert (made.identity.name, made.identity.addresses) == ("mgt1", tuple(ADDRESSES))
    assert pki.judge_certificate(made.identity.pem, "mgt1") == made.identity
    assert files(folder)["server.pem"] == made.key_pem + made.identity.pem.encode()
    assert made.key_pem.startswith(b"-----BEGIN PRIVATE KEY-----")
    assert (made.next, made.succession.steps) == (None, ())
    assert made.identity_file.parent == made.next_file.parent == folder


def test_two_fresh_servers_are_strangers(folder: Path, tmp_path: Path) -> None:
    """Same name, same addresses: another key and another certificate."""
    other = tmp_path / "other"
    credentials.prepare_fresh(other, "mgt1", ADDRESSES)
    credentials.install(other)
    one, two = Credentials(folder), Credentials(other)
    assert one.key_pem != two.key_pem
    assert one.identity.fingerprint != two.identity.fingerprint


def test_folder_does_not_exist_before_it_is_installed(tmp_path: Path) -> None:
    """It is put together beside its place, and appears by one rename."""
    path = tmp_path / "pki"
    credentials.prepare_fresh(path, "mgt1", ADDRESSES)
    assert not path.exists()
    assert credentials.name_in(path) is None
    assert list(files(credentials.incoming(path))) == ["server.pem"]
    credentials.install(path)
    assert not credentials.incoming(path).exists()
    assert credentials.name_in(path) == "mgt1"


@pytest.mark.parametrize(
    ("name", "before"),
    [
        ("make_private_folder", False),
        ("write_atomically", True),
        ("write_atomically", False),
    ],
)
def test_preparation_that_was_cut_leaves_nothing_in_the_next_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, before: bool
) -> None:
    """Each try begins anew, and the place of the folder stays empty until it is whole."""
    path = tmp_path / "pki"
    with monkeypatch.context() as patch:
        killed_at(patch, credentials, name, before=before)
        with pytest.raises(Killed):
            credentials.prepare_fresh(path, "mgt1", ADDRESSES)
    assert not path.exists()
    (credentials.incoming(path) / "of-an-earlier-try").write_bytes(b"?")
    credentials.prepare_fresh(path, "mgt1", ADDRESSES)
    credentials.install(path)
    assert list(files(path)) == ["server.pem"]
    assert Credentials(path).identity.name == "mgt1"


def test_folder_in_use_is_not_replaced(folder: Path) -> None:
    """The old one must have been moved away first."""
    before = files(folder)
    credentials.prepare_fresh(folder, "mgt1", ADDRESSES)
    with pytest.raises(CollectiveError, match="not empty"):
        credentials.install(folder)
    credentials.repair(folder)
    assert files(folder) == before


def test_install_that_was_cut_is_finished(folder: Path) -> None:
    """Between the old folder's moving away and the rename there is none; then there is one."""
    credentials.prepare_fresh(folder, "mgt1", ADDRESSES)
    prepared = files(credentials.incoming(folder))
    folder.rename(folder.with_name("aside"))
    credentials.repair(folder)
    credentials.repair(folder)
    assert files(folder) == prepared


def test_copy_has_the_certificate_and_nothing_else(folder: Path, tmp_path: Path) -> None:
    """A lost server was taken in with one that stood elsewhere; what it trusted goes not along."""
    (folder / "trusted.pem").write_bytes(b"?")
    path = tmp_path / "copied"
    credentials.copy(folder, path)
    assert not path.exists()
    credentials.install(path)
    assert files(path) == {"server.pem": files(folder)["server.pem"]}


def test_missing_or_broken_file_is_told(folder: Path) -> None:
    """Half a folder is not read as a whole one."""
    made = Credentials(folder)
    (folder / "server.pem").write_bytes(made.key_pem)
    with pytest.raises((CollectiveError, ssl.SSLError)):
        Credentials(folder)
    (folder / "server.pem").unlink()
    with pytest.raises(FileNotFoundError):
        Credentials(folder)


# The next certificate -------------------------------------------------------------------------


def test_next_certificate_is_prepared_once(folder: Path) -> None:
    """The same command again goes on with it; for other addresses there is another."""
    made = Credentials(folder)
    following = made.prepare_next(ADDRESSES)
    assert made.prepare_next(reversed(ADDRESSES)) == following == made.next  # type: ignore[arg-type]
    assert Credentials(folder).prepare_next(ADDRESSES) == following
    assert following.fingerprint != made.identity.fingerprint
    other = made.prepare_next(["127.0.0.9"])
    assert other.addresses == ("127.0.0.9",)
    assert made.next == other != following


def test_next_certificate_has_a_key_of_its_own(folder: Path) -> None:
    """A key that was stolen goes with the certificate."""
    made = Credentials(folder)
    former = made.key_pem
    made.prepare_next(ADDRESSES)
    assert former not in made.next_file.read_bytes()
    made.use_next()
    assert made.key_pem != former


def test_next_certificate_counts_when_it_is_used_and_not_before(folder: Path) -> None:
    """The caller has it recorded first; then one rename changes key and certificate."""
    made = Credentials(folder)
    in_use, calls = made.server_context, made.client_context
    before, following = made.identity, made.prepare_next(["127.0.0.9"])
    assert made.identity == before == Credentials(folder).identity
    assert made.server_context is in_use
    made.use_next()
    assert made.identity == following == Credentials(folder).identity
    assert made.next is None
    assert made.server_context is not in_use, "handshakes under way keep what they began with"
    assert made.client_context is not calls
    assert made.succession.proves("mgt1", {before.fingerprint}, following.fingerprint)


def test_use_without_a_next_certificate_changes_nothing(folder: Path) -> None:
    """Done is done: a command that is run again finds no next one."""
    made = Credentials(folder)
    before = files(folder)
    made.use_next()
    assert files(folder) == before


def test_broken_next_certificate_is_told(folder: Path) -> None:
    """It is not taken for none: others may have it recorded."""
    made = Credentials(folder)
    made.next_file.touch(0o600)
    with pytest.raises(ProtocolError):
        _ = made.next


CUTS: list[tuple[ModuleType, str, bool]] = [
    (credentials, "write_atomically", True),
    (credentials, "write_atomically", False),
    (succession, "sign_replacement", False),
    (succession, "write_atomically", True),
    (succession, "write_atomically", False),
    (credentials, "fsync_folder", True),
    (credentials, "fsync_folder", False),
]


@pytest.mark.parametrize(("module", "name", "before"), CUTS)
def test_change_that_was_cut_is_finished_by_the_next_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, before: bool
) -> None:
    """Killed at any write: one whole certificate is shown, and it was proven before (P5)."""
    former = Credentials(folder).identity

    def change() -> None:
        made = Credentials(folder)
        if made.identity == former:
            made.prepare_next(ADDRESSES)
            made.use_next()

    with monkeypatch.context() as patch, suppress(Killed):
        killed_at(patch, module, name, before=before)
        change()
        pytest.fail("it was not cut")
    found = Credentials(folder)
    proven = found.succession.proves("mgt1", {former.fingerprint}, found.identity.fingerprint)
    assert found.identity == former or proven
    change()
    change()
    done = Credentials(folder)
    assert done.identity != former
    assert done.next is None
    assert done.succession.proves("mgt1", {former.fingerprint}, done.identity.fingerprint)
    assert len(done.succession.steps) == 1
    assert sorted(files(folder)) == ["server.pem", "succession.json"]


def test_rename_is_what_changes_the_certificate(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed right before it all is as it was, and right after it all is done."""
    made = Credentials(folder)
    former, following = made.identity, made.prepare_next(ADDRESSES)
    real = os.rename

    def killed(source: Path, place: Path) -> None:
        if source == made.next_file:
            raise Killed
        real(source, place)

    with monkeypatch.context() as patch:
        patch.setattr(os, "rename", killed)
        with pytest.raises(Killed):
            made.use_next()
    assert Credentials(folder).identity == former
    assert Credentials(folder).next == following
    Credentials(folder).use_next()
    assert Credentials(folder).identity == following


def test_another_next_certificate_after_a_cut_is_proven_too(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The step that was signed for one that was never shown is replaced by the real one."""
    made = Credentials(folder)
    former = made.identity
    made.prepare_next(ADDRESSES)
    with monkeypatch.context() as patch:
        killed_at(patch, succession, "write_atomically")
        with pytest.raises(Killed):
            made.use_next()
    made = Credentials(folder)
    made.next_file.unlink()
    following = made.prepare_next(["127.0.0.9"])
    made.use_next()
    assert made.succession.proves("mgt1", {former.fingerprint}, following.fingerprint)
    assert len(made.succession.steps) == 1


# Whom the door lets in --------------------------------------------------------------------------


def test_contexts_want_tls_1_3_and_recorded_certificates(folder: Path) -> None:
    """Strangers may connect to the door; who shows a certificate must be listed."""
    made, other = Credentials(folder), identity("mgt2")
    assert made.server_context.minimum_version is ssl.TLSVersion.TLSv1_3
    modes = [made.server_context.verify_mode]
    assert made.trust({other.fingerprint: other.pem})
    modes.append(made.server_context.verify_mode)
    assert modes == [ssl.CERT_NONE, ssl.CERT_OPTIONAL], "first nobody is listed"
    assert made.server_context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert made.client_context.minimum_version is ssl.TLSVersion.TLSv1_3


def test_trust_is_that_of_the_last_call(folder: Path) -> None:
    """A new context where it is another set, the same one where it is not."""
    made = Credentials(folder)
    one, two = identity("mgt2"), identity("mgt3")
    both = {each.fingerprint: each.pem for each in (one, two)}
    assert made.trust(both)
    context = made.server_context
    assert not made.trust(dict(reversed(both.items())))
    assert made.server_context is context
    assert made.trusts(one.fingerprint)
    assert made.trusts(two.fingerprint)
    assert made.trust({two.fingerprint: two.pem})
    assert made.server_context is not context
    assert not made.trusts(one.fingerprint)
    assert not made.trusts("")
    assert made.trust({})
    assert not made.trusts(two.fingerprint)


def test_trust_is_not_on_the_disk(folder: Path) -> None:
    """It follows the records, so nothing that a deleted server was in is left to be read."""
    made, other = Credentials(folder), identity("mgt2")
    before = files(folder)
    made.trust({other.fingerprint: other.pem})
    assert files(folder) == before
    assert not Credentials(folder).trusts(other.fingerprint)


def test_key_is_in_no_representation(folder: Path) -> None:
    """What ends in a log gives nothing away."""
    made = Credentials(folder)
    secret = made.key_pem.split(b"\n")[1].decode()
    for value in (made, made.identity, made.succession, vars(made)["_identity"]):
        assert secret not in repr(value)
        assert "PRIVATE" not in repr(value)
