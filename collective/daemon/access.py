"""Who may ask what at the door: decided on the certificate and the records.

Safety property: a certificate opens the door only while a record of a member lists its serial
number. So a revoked one, one of a deleted server, and one that somebody minted with a copy of
the CA's key are all refused here.

Pure; the records come in as a view.
"""

from __future__ import annotations

from collective.errors import AccessError, RemovedError
from collective.model.records import MemberRecord
from collective.model.view import View
from collective.protocol.web import Peer


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
    if member is None or certificate.serial not in member.serials:
        raise AccessError(f"the certificate of {certificate.name} belongs to no member")
    return member


def objection(view: View, wanted: str, name: str, serial: str) -> str | None:
    """Return why a server that we dialled is not the one that we wanted, or None."""
    if name != wanted:
        return f"it is {name or 'a server without a name'}, not {wanted}"
    if serial in view.revoked:
        return f"{name} was deleted from this collective"
    return None
