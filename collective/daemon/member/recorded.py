"""The certificates that records list, read once; whose etcd lacks one; what may be recorded.

Those that cannot be read leave their member out, and nobody else. It does not judge who is a
member.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterable
from functools import lru_cache

from collective.errors import ProtocolError, RefusedError
from collective.model.records import MemberRecord
from collective.model.view import View
from collective.pki import Certificate, judge_certificate
from collective.policy.addressing import check_certified

_MOST_CACHED = 1024


@lru_cache(_MOST_CACHED)
def _read(pem: str, name: str) -> Certificate | None:
    try:
        return judge_certificate(pem, name)
    except ProtocolError:
        return None


def certificates_of(
    members: Iterable[MemberRecord], revoked: Container[str] = ()
) -> dict[str, Certificate]:
    """Return the certificates of members, by fingerprint, but for those that are of no use."""
    found = (
        _read(pem, member.name)
        for member in members
        for pem in member.certificates
        if not is_broken(member)
    )
    return {c.fingerprint: c for c in found if c is not None and c.fingerprint not in revoked}


def is_broken(member: MemberRecord) -> bool:
    """Tell whether a record lists no certificate, one that is none of ours, or another server's.

    Whatever wrote it: OpenSSL and etcd are given none that they may not read.
    """
    read = [_read(pem, member.name) for pem in member.certificates]
    return None in read or not read


def lacking(view: View, answering: Collection[str], fingerprints: Collection[str]) -> list[str]:
    """Return the voters that answer and whose etcd does not let certificates in yet.

    One whose own certificate is of no use is left out: nobody can wait for it.

    Args:
        view: the records.
        answering: names of those who answer.
        fingerprints: of the certificates; a voter need not know its own.
    """
    return sorted(
        name
        for name, member in view.voters.items()
        if name in answering
        and not is_broken(member)
        and not set(fingerprints) - set(member.fingerprints) <= loaded_by(view, name)
    )


def loaded_by(view: View, name: str) -> frozenset[str]:
    """Return the fingerprints of what a voter's etcd has taken up, as it is recorded."""
    loaded = view.loaded.get(name)
    return frozenset(loaded.fingerprints) if loaded is not None else frozenset()


def check_recordable(view: View, name: str, address: str, certificate: Certificate) -> None:
    """Refuse to record a certificate that was found good in itself.

    Args:
        view: the records.
        name: of the server whose it is.
        address: that the server is to be reached at.
        certificate: as judged.

    Raises:
        RefusedError: it was revoked, is like another member's, or names what is not its server's.
    """
    again = f"run 'collective gencert' on {name} for another one"
    if certificate.fingerprint in view.revoked:
        raise RefusedError(f"the certificate of {name} was revoked", again)
    others = certificates_of(m for n, m in view.members.items() if n != name)
    if certificate.serial in {other.serial for other in others.values()}:
        # etcd's revocation list knows certificates by that number alone.
        raise RefusedError(
            f"the certificate of {name} has the serial number of another member's", again
        )
    check_certified(view, name, address, certificate.addresses)
