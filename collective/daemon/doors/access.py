"""Who may ask what at the door: decided on the certificate and the records.

Safety property: a certificate opens the door, and is believed when we dial, only while a record
of a member lists its fingerprint. So a revoked one, one of a deleted server, and one that somebody
minted with a copy of the CA's key are all refused here.

Pure; the records come in as a view.
"""

from __future__ import annotations

from collective.errors import AccessError, RemovedError
from collective.model.records import MemberRecord
from collective.model.view import View
from collective.protocol.web import Peer, PeerCertificate


def member_of(view: View, peer: Peer) -> MemberRecord:
    """Return the member that is at the other end.

    Raises:
        RemovedError: the certificate is revoked.
        AccessError: there is no certificate, or no member that it belongs to.
    """
    certificate = peer.certificate
    if certificate is None:
        raise AccessError("this needs the certificate of a member")
    if certificate.serial in view.revoked:
        raise RemovedError(f"{certificate.name} was deleted from this collective")
    member = view.members.get(certificate.name)
    if member is None or certificate.fingerprint not in member.fingerprints:
        raise AccessError(f"the certificate of {certificate.name} belongs to no member")
    return member


def objection(view: View, wanted: str, served: PeerCertificate) -> str | None:
    """Return why a server that we dialled is not the one that we wanted, or None.

    A member of which we have no record is believed on its CA alone: so it is for a server that
    joins, before it has the records.
    """
    if served.name != wanted:
        return f"it is {served.name or 'a server without a name'}, not {wanted}"
    if served.serial in view.revoked:
        return f"{wanted} was deleted from this collective"
    member = view.members.get(wanted)
    if member is not None and served.fingerprint not in member.fingerprints:
        return f"its certificate is none that {wanted} was given"
    return None
