"""The trust file and the revocation list of etcd: what they hold, and that they are whole."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from itertools import chain, combinations
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st

from collective.daemon.member import credentials, etcd_trust
from collective.daemon.member.credentials import Credentials
from collective.daemon.member.etcd_trust import EtcdTrust
from collective.pki import Certificate, read_certificate
from tests.unit.cuts import Killed, killed_at
from tests.unit.identities import identity
from tests.unit.pki.attacks import Forged

ALL = tuple(identity(f"mgt{n}").certificate for n in range(1, 5))


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder that examples share."""
    path = tmp_path_factory.mktemp("etcd-trust") / "pki"
    credentials.prepare_fresh(path, "mgt1", [])
    credentials.install(path)
    return path


@pytest.fixture
def trust(module_folder: Path) -> EtcdTrust:
    """The two files, of a server whose etcd was never started."""
    made = EtcdTrust(Credentials(module_folder))
    for path in (made.trust_file, made.crl_file):
        path.unlink(missing_ok=True)
    return made


def some(*certificates: Certificate) -> dict[str, Certificate]:
    return {c.fingerprint: c for c in certificates}


def trusted(trust: EtcdTrust) -> list[str]:
    """Return the fingerprints in the trust file, in order."""
    parts = trust.trust_file.read_text().split("-----END CERTIFICATE-----\n")[:-1]
    return [read_certificate(f"{part}-----END CERTIFICATE-----\n").fingerprint for part in parts]


def listed(trust: EtcdTrust) -> set[str]:
    """Return the serial numbers in the revocation list file."""
    crl = x509.load_der_x509_crl(trust.crl_file.read_bytes())
    return {f"{entry.serial_number:x}" for entry in crl}


def fingerprints(certificates: Sequence[Certificate]) -> set[str]:
    return {c.fingerprint for c in certificates}


def serials(*certificates: Certificate) -> set[str]:
    return {c.serial for c in certificates}


def test_files_are_written_for_the_start(trust: EtcdTrust) -> None:
    """The trust file is the certificates, one after the other; nobody is taken back."""
    trust.write(some(*ALL[:3]))
    assert trusted(trust) == [c.fingerprint for c in ALL[:3]]
    assert listed(trust) == set()
    assert trust.loaded == fingerprints(ALL[:3])
    assert trust.refused == frozenset()
    for path in (trust.trust_file, trust.crl_file):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_list_is_signed_by_the_key_of_this_server(trust: EtcdTrust, module_folder: Path) -> None:
    """No other key is at hand; etcd does not look at it."""
    trust.write(some(*ALL))
    certificate = x509.load_pem_x509_certificate(Credentials(module_folder).identity.pem.encode())
    key = certificate.public_key()
    assert isinstance(key, ec.EllipticCurvePublicKey)
    assert x509.load_der_x509_crl(trust.crl_file.read_bytes()).is_signature_valid(key)


def subsets() -> list[tuple[Certificate, ...]]:
    sizes = range(len(ALL) + 1)
    return list(chain.from_iterable(combinations(ALL, size) for size in sizes))


@given(loaded=st.sampled_from(subsets()), later=st.lists(st.sampled_from(subsets()), max_size=4))
def test_list_is_exactly_what_etcd_believes_and_is_not_wanted(
    module_folder: Path,
    loaded: tuple[Certificate, ...],
    later: list[tuple[Certificate, ...]],
) -> None:
    """After any changes: no one more, no one less, and the trust file is that of the start."""
    trust = EtcdTrust(Credentials(module_folder))
    trust.write(some(*loaded))
    for wanted in later:
        trust.refuse_others(some(*wanted))
        gone = set(loaded) - set(wanted)
        assert listed(trust) == serials(*gone)
        assert trust.refused == fingerprints(list(gone))
        assert trusted(trust) == [c.fingerprint for c in loaded]
        assert trust.loaded == fingerprints(loaded)
    trust.write(some(*ALL))
    assert (listed(trust), trust.refused) == (set(), frozenset())


def test_trust_file_is_written_for_a_start_and_never_else(trust: EtcdTrust) -> None:
    """Etcd reads it then alone: what it holds is what the running etcd believes."""
    trust.write(some(*ALL[:2]))
    before = os.stat(trust.trust_file)
    trust.refuse_others(some(*ALL))
    trust.refuse_others({})
    after = os.stat(trust.trust_file)
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_list_is_replaced_by_a_rename_and_only_where_it_differs(trust: EtcdTrust) -> None:
    """Etcd reads it at each handshake, and refuses everybody on half of one."""
    trust.write(some(*ALL[:2]))
    first = os.stat(trust.crl_file).st_ino
    trust.refuse_others(some(*ALL))
    assert os.stat(trust.crl_file).st_ino == first
    opened = trust.crl_file.open("rb")
    with opened:
        trust.refuse_others(some(ALL[0]))
        assert os.stat(trust.crl_file).st_ino != first
        assert len(x509.load_der_x509_crl(opened.read())) == 0, (
            "who reads the old one has it whole"
        )
    assert listed(trust) == serials(ALL[1])


def test_certificate_that_is_wanted_again_is_taken_off_the_list(trust: EtcdTrust) -> None:
    """Revoked records do not come back; a view that was behind does."""
    trust.write(some(*ALL[:2]))
    trust.refuse_others(some(ALL[0]))
    trust.refuse_others(some(*ALL[:2]))
    assert (listed(trust), trust.refused) == (set(), frozenset())


def test_serial_number_of_a_former_member_does_not_shut_out_one_that_is_wanted(
    trust: EtcdTrust,
) -> None:
    """Who is deleted may have chosen another's number; etcd's list knows nothing but numbers."""
    wanted = read_certificate(Forged(name="mgt1", serial=0xABC).pem())
    former = read_certificate(Forged(name="mgt9", serial=0xABC).pem())
    other = read_certificate(Forged(name="mgt8", serial=0xDEF).pem())
    trust.write(some(wanted, former, other))
    trust.refuse_others(some(wanted))
    assert listed(trust) == {"def"}
    assert trust.refused == fingerprints([former, other]), "it is cut off, at least"
    trust.refuse_others({})
    assert listed(trust) == {"abc", "def"}


def test_owner_of_what_was_loaded_is_known_by_name(trust: EtcdTrust) -> None:
    """Also when its record is gone; of anything else nobody knows."""
    trust.write(some(*ALL[:2]))
    trust.refuse_others({})
    assert trust.name_of(ALL[1].fingerprint) == "mgt2"
    assert trust.name_of(ALL[3].fingerprint) == "a former member"


@pytest.mark.parametrize(("times", "before"), [(1, True), (1, False), (2, True), (2, False)])
def test_start_that_was_cut_leaves_whole_files(
    trust: EtcdTrust, monkeypatch: pytest.MonkeyPatch, times: int, before: bool
) -> None:
    """Killed at either write: each is the old one or the new one; the next start writes both."""
    trust.write(some(*ALL[:2]))
    trust.refuse_others(some(ALL[0]))
    with monkeypatch.context() as patch:
        killed_at(patch, etcd_trust, "write_atomically", times, before)
        with pytest.raises(Killed):
            trust.write(some(*ALL[1:]))
    assert trusted(trust) in ([c.fingerprint for c in ALL[:2]], [c.fingerprint for c in ALL[1:]])
    assert listed(trust) in (set(), serials(ALL[1]))
    again = EtcdTrust(trust._credentials)
    again.write(some(*ALL[1:]))
    assert trusted(again) == [c.fingerprint for c in ALL[1:]]
    assert listed(again) == set()


def test_list_that_could_not_be_written_is_written_by_the_next_call(
    trust: EtcdTrust, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A full disk: nobody is said to be refused who is not, and it is tried again."""
    trust.write(some(*ALL[:2]))

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(etcd_trust, "write_atomically", full)
        with pytest.raises(OSError, match="No space"):
            trust.refuse_others(some(ALL[0]))
    assert (listed(trust), trust.refused) == (set(), frozenset())
    trust.refuse_others(some(ALL[0]))
    assert listed(trust) == serials(ALL[1])
