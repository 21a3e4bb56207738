"""The folder of certificates and keys on a real file system."""

from __future__ import annotations

import os
import ssl
import stat
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from cryptography import x509

from collective import pki
from collective.daemon.certificates import credentials
from collective.daemon.certificates.credentials import Bundle, Credentials, renewal_due
from collective.errors import InputError, RefusedError

NOW = datetime(2026, 3, 1, 12, 0, tzinfo=timezone.utc)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The folder of a collective of one."""
    path = tmp_path / "pki"
    credentials.prepare_fresh(path, "mgt1", ["127.0.0.2", "127.0.0.1"], NOW)
    credentials.install(path)
    return path


@pytest.fixture
def bundle(tmp_path: Path) -> Bundle:
    """What a joiner is given, without the CA's key."""
    authority = pki.Authority.create("collective", NOW)
    key = pki.new_key()
    leaf = authority.issue(pki.make_request(key, "mgt2"), "mgt2", ["127.0.0.3"], NOW)
    return Bundle(key, leaf, authority.certificate_pem, authority.crl((), NOW))


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_every_file_is_private(folder: Path) -> None:
    """Folder 0700, files 0600, whatever the umask: one of them is the CA's key."""
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()}
    assert modes == dict.fromkeys(("ca.pem", "ca.key", "leaf.pem", "crl.der"), 0o600)


def test_fresh_folder_fits_together(folder: Path) -> None:
    """The leaf is of the CA, made out for name and addresses; key and list are there."""
    made = Credentials(folder)
    assert made.leaf.name == "mgt1"
    assert made.leaf.addresses == ("127.0.0.2", "127.0.0.1")
    assert made.holds_ca_key
    assert made.authority().holds_key
    assert pki.issued_by(folder.joinpath("leaf.pem").read_bytes()[241:], made.authority())
    assert len(list(x509.load_der_x509_crl(made.crl()))) == 0
    assert made.ca_file.read_bytes() == made.ca_pem == made.authority().certificate_pem


def test_folder_does_not_exist_before_it_is_installed(tmp_path: Path, bundle: Bundle) -> None:
    """It is put together beside its place, and appears by one rename."""
    path = tmp_path / "pki"
    credentials.prepare(path, bundle, None)
    assert not path.exists()
    assert sorted(files(credentials.incoming(path))) == ["ca.pem", "crl.der", "leaf.pem"]
    credentials.install(path)
    assert not credentials.incoming(path).exists()
    made = Credentials(path)
    assert (made.leaf.name, made.holds_ca_key) == ("mgt2", False)
    assert not made.authority().holds_key


def test_preparation_that_was_cut_leaves_nothing_in_the_next_one(
    tmp_path: Path, bundle: Bundle
) -> None:
    """A CA key of an earlier try does not slip into the folder of a later one."""
    path = tmp_path / "pki"
    credentials.prepare(path, bundle, b"key of another CA")
    credentials.prepare(path, bundle, None)
    assert "ca.key" not in files(credentials.incoming(path))


def test_folder_in_use_is_not_replaced(folder: Path, bundle: Bundle) -> None:
    """The old one must have been moved away first."""
    before = files(folder)
    credentials.prepare(folder, bundle, None)
    with pytest.raises(OSError, match="not empty"):
        credentials.install(folder)
    assert files(folder) == before


def test_key_is_in_no_representation(bundle: Bundle) -> None:
    """A bundle that ends in a log gives nothing away."""
    assert "PRIVATE" not in repr(bundle)
    assert bundle.key_pem.split(b"\n")[1].decode() not in repr(bundle)


def test_missing_file_is_told(folder: Path) -> None:
    """Half a folder is not read as a whole one."""
    (folder / "ca.pem").unlink()
    with pytest.raises(FileNotFoundError):
        Credentials(folder)


def test_contexts_want_tls_1_3_and_our_ca(folder: Path) -> None:
    """Strangers may connect to the door; what we dial must prove itself."""
    made = Credentials(folder)
    assert made.server_context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert made.server_context.verify_mode is ssl.CERT_OPTIONAL
    assert made.client_context.verify_mode is ssl.CERT_REQUIRED
    for context in (made.server_context, made.client_context):
        assert len(context.get_ca_certs()) == 1
    assert made.server_context is made.server_context


def test_new_leaf_counts_when_it_is_used_and_not_before(folder: Path) -> None:
    """The caller writes its serial down first; then one rename changes key and certificate."""
    made = Credentials(folder)
    _ = made.server_context, made.client_context
    before = made.leaf
    leaf_file, info = made.new_leaf(["127.0.0.9"], NOW)
    assert made.leaf == before == Credentials(folder).leaf
    in_use = made.server_context
    made.use_leaf(leaf_file)
    assert made.leaf == info == Credentials(folder).leaf
    assert (info.name, info.addresses) == ("mgt1", ("127.0.0.9",))
    assert info.serial != before.serial
    assert info.key_id != before.key_id
    assert made.server_context is not in_use, "handshakes under way keep what they began with"


def test_leaf_of_a_ca_on_its_way_out_does_not_replace_one_of_the_new(folder: Path) -> None:
    """It was signed before the CA changed, and comes late: soon nobody would trust it."""
    here = Credentials(folder)
    former = here.authority()
    late, _ = here.new_leaf(["127.0.0.1"], NOW)
    new = pki.Authority.create("new", NOW)
    here.trust((former, new))
    here.use_leaf(late)
    here.store_next(new)
    assert here.issue_with_next(new.pin.hex())
    fresh, _ = here.new_leaf(["127.0.0.1"], NOW)
    here.use_leaf(fresh)
    with pytest.raises(RefusedError, match="being replaced"):
        here.use_leaf(late)
    assert here.leaf_file.read_bytes() == fresh


def test_leaf_of_a_server_without_the_ca_key_is_refused(tmp_path: Path, bundle: Bundle) -> None:
    """Nothing is written."""
    path = tmp_path / "pki"
    credentials.prepare(path, bundle, None)
    credentials.install(path)
    before = files(path)
    with pytest.raises(RefusedError):
        Credentials(path).new_leaf(["127.0.0.9"], NOW)
    assert files(path) == before


def test_ca_key_is_kept_only_if_it_is_that_of_our_ca(tmp_path: Path) -> None:
    """A key of something else is refused, and none is there afterwards."""
    authority = pki.Authority.create("collective", NOW)
    key = pki.new_key()
    leaf = authority.issue(pki.make_request(key, "mgt2"), "mgt2", ["127.0.0.3"], NOW)
    path = tmp_path / "pki"
    crl = authority.crl((), NOW)
    credentials.prepare(path, Bundle(key, leaf, authority.certificate_pem, crl), None)
    credentials.install(path)
    made = Credentials(path)
    other = pki.Authority.create("collective", NOW).key_pem
    assert other is not None
    for wrong in (other, key, b"", b"nonsense"):
        with pytest.raises(InputError):
            made.store_ca_key(wrong)
        assert not made.holds_ca_key
    assert authority.key_pem is not None
    made.store_ca_key(authority.key_pem)
    assert made.holds_ca_key
    assert made.authority().holds_key


def test_revocation_list_names_all_serials_and_replaces_the_file(folder: Path) -> None:
    """By a rename: etcd, which reads it at each handshake, never sees a part."""
    made = Credentials(folder)
    before = os.stat(made.crl_file).st_ino
    made.revoke(["a1", "ff"], NOW)
    revoked = x509.load_der_x509_crl(made.crl())
    assert {entry.serial_number for entry in revoked} == {0xA1, 0xFF}
    assert os.stat(made.crl_file).st_ino != before
    assert stat.S_IMODE(made.crl_file.stat().st_mode) == 0o600


def test_server_without_the_ca_key_leaves_its_list_alone(tmp_path: Path, bundle: Bundle) -> None:
    """It could not sign another; its door looks at the store anyway."""
    path = tmp_path / "pki"
    credentials.prepare(path, bundle, None)
    credentials.install(path)
    Credentials(path).revoke(["a1"], NOW)
    assert Credentials(path).crl() == bundle.crl


@pytest.mark.parametrize(("days", "due"), [(0, False), (243, False), (244, True), (365, True)])
def test_leaf_is_renewed_after_two_thirds_of_its_life(folder: Path, days: int, due: bool) -> None:
    """A year's certificate, after some eight months."""
    assert renewal_due(Credentials(folder).leaf, NOW + timedelta(days=days)) is due


def test_former_authority_leaves_its_last_list(folder: Path) -> None:
    """Who trusts it alone, and no certificate of now, learns from it who was revoked."""
    made = Credentials(folder)
    former = made.authority()
    made.revoke({"abc"}, NOW)
    following = pki.Authority.create("the next one", NOW)
    made.trust((former, following))
    made.store_next(following)
    assert made.issue_with_next(following.pin.hex())
    made.revoke({"abc", "def"}, NOW)
    for used in (made, Credentials(folder)):
        kept = used.revocation_list(former.pin.hex())
        assert kept is not None
        assert pki.revoked_by(kept[1], kept[0], former.pin) == {"abc"}
        current = used.revocation_list(following.pin.hex())
        assert current is not None
        assert pki.revoked_by(current[1], current[0], following.pin) == {"abc", "def"}


@pytest.mark.parametrize("pin", ["", "../ca", "0" * 64, "../former/x"])
def test_list_of_an_unknown_authority_is_none(folder: Path, pin: str) -> None:
    """A stranger names it: nothing but a pin becomes a file's name."""
    assert Credentials(folder).revocation_list(pin) is None


def test_so_many_former_lists_are_kept_and_no_more(folder: Path) -> None:
    """The oldest go."""
    made = Credentials(folder)
    pins = [made.pin.hex()]
    for number in range(70):
        following = pki.Authority.create(f"number {number}", NOW)
        made.trust((made.authority(), following))
        made.store_next(following)
        assert made.issue_with_next(following.pin.hex())
        made.revoke((), NOW)
        pins.append(following.pin.hex())
    former = pins[:-1]
    kept = [pin for pin in former if made.revocation_list(pin) is not None]
    assert kept == former[-64:]
