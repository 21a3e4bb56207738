"""A new certificate for this server, from the CA in use: made here, or by a voter.

Invariants:
  * A certificate is written down before it is used, so no member refuses it. The exception is a
    server whose own one is not valid any more: nobody would let it in to write.
  * One thread at a time changes which certificate is in use or written down: another one would
    revoke what was just written down for use.
"""

from __future__ import annotations

import logging
from dataclasses import replace
from datetime import datetime

from collective.daemon.certificates.credentials import Credentials, is_valid
from collective.daemon.clock import epoch, utc_now
from collective.daemon.lives import certified_here
from collective.daemon.node import Node
from collective.daemon.nonvoting import voters
from collective.daemon.peers.quorum import needs_quorum
from collective.daemon.retries import until_written
from collective.errors import ProtocolError, RefusedError
from collective.failpoints import Step, reached
from collective.model.names import MOST_ADDRESSES
from collective.pki import make_request, new_key, read_leaf
from collective.protocol import messages

log = logging.getLogger(__name__)

_SYNC_SECONDS = 3.0
_CERTIFY_SECONDS = 10.0


def have_certified(node: Node, issuer: str = "") -> None:
    """Get a certificate from a voter, which writes it down before it answers.

    Args:
        node: this server, which has not the CA's key.
        issuer: pin (hex) of the CA that it must be from, "" for whichever is in use.

    Raises:
        QuorumError: no voter answers.
        RefusedError: none of them issues with that CA yet.
    """
    with node.renewing:
        _have_certified(node, issuer)


def _have_certified(node: Node, issuer: str) -> None:
    key = new_key()
    csr = make_request(key, node.name).decode()
    body = {"format": messages.FORMAT, "csr": csr, "issuer": issuer}
    raw = voters.ask(node, "POST", messages.CERTIFY, body, _CERTIFY_SECONDS)
    messages.check_format(raw)
    leaf = messages.text(raw, "leaf", 1 << 16).encode()
    info = read_leaf(leaf)
    if info.name != node.name:
        raise ProtocolError(f"a certificate came for {info.name}, not for {node.name}")
    node.replica.wait_for(int(raw.get("revision", 0)), _SYNC_SECONDS)
    node.use_leaf(key + leaf + messages.text(raw, "ca", 1 << 16).encode())
    reached(Step.CERTIFIED_USE)
    node.look_at_door()
    log.info("new certificate serial=%s ends=%s", info.serial, info.not_after)


def gencert(node: Node, now: datetime | None = None, keep: bool = True) -> None:
    """Give this server a new key and certificate from the CA in use.

    The new serial number is written down before the certificate is used, so no member refuses
    it; the old one stays good until it expires, and a deletion revokes both.

    Args:
        node: this server.
        now: the time, for tests.
        keep: whether it also names what the former one did and this machine has no more, such as
            the address that other members see behind a router.

    Raises:
        QuorumError: there is no quorum to write it down.
        RefusedError: this server is not a member.
    """
    if not node.credentials.holds_ca_key:
        with needs_quorum(node, "make a certificate"):
            have_certified(node)
        return
    with node.renewing:
        _gencert(node, now or utc_now(), keep)


def _gencert(node: Node, now: datetime, keep: bool) -> None:
    addresses = certified_here(node.plan.address)
    former = [a for a in node.credentials.leaf.addresses if a not in addresses]
    wanted = [*addresses, *(former if keep else ())][:MOST_ADDRESSES]
    leaf_file, info = node.credentials.new_leaf(wanted, now)

    def attempt() -> int | None:
        view = node.store.read()
        record = view.members.get(node.name)
        if record is None:
            raise RefusedError(f"cannot make a certificate: {node.name} is not a member")
        in_use = node.credentials.leaf.serial
        certified, too_many = record.certified(info.serial, info.fingerprint, in_use)
        written = node.store.put_member(view, certified, epoch(), too_many)
        return view.revision + 1 if written else None

    with needs_quorum(node, "make a certificate"):
        revision = until_written("make a certificate", attempt)
    reached(Step.RENEW_RECORD)
    node.replica.wait_for(revision, _SYNC_SECONDS)
    node.use_leaf(leaf_file)
    reached(Step.RENEW_USE)
    node.look_at_door()
    log.info("new certificate serial=%s ends=%s", info.serial, info.not_after)


def reissue_invalid(credentials: Credentials, address: str, now: datetime) -> bool:
    """Give a server whose certificate has expired another one, from the CA's key that it holds.

    So it finds its way back after a year without power, also where all members were off. The
    members' etcds believe it, since the CA signed it; the doors of the daemons do only when
    ``write_down`` has put it into the records, through this server's own etcd. It opens nothing
    that a kept CA key does not open anyway, which is what re-keying is for.

    Args:
        credentials: in use; a certificate that is good is left alone.
        address: that this server is known by.
        now: the time.

    Returns:
        Whether there is a new certificate.
    """
    old = credentials.leaf
    if is_valid(old, now) or not credentials.holds_ca_key:
        return False
    names = list(dict.fromkeys([*certified_here(address), *old.addresses]))[:MOST_ADDRESSES]
    leaf_file, info = credentials.new_leaf(names, now)
    credentials.use_leaf(leaf_file)
    log.warning(
        "the certificate was not valid at this time and is replaced from=%s to=%s serial=%s",
        old.not_before,
        old.not_after,
        info.serial,
    )
    return True


def is_unrecorded(node: Node) -> bool:
    """Tell whether the members' records, as far as known here, lack the certificate in use."""
    record = node.replica.view.members.get(node.name)
    return record is not None and node.credentials.leaf.fingerprint not in record.fingerprints


def write_down(node: Node) -> None:
    """Put the certificate in use into our record, in place of all others, which are revoked.

    Raises:
        QuorumError: there is no quorum to write it down.
        RefusedError: this server is not a member.
    """

    def attempt() -> bool | None:
        view, leaf = node.store.read(), node.credentials.leaf
        record = view.members.get(node.name)
        if record is None:
            raise RefusedError(f"cannot write a certificate down: {node.name} is not a member")
        if leaf.fingerprint in record.fingerprints or leaf.serial in view.revoked:
            return False
        ours = replace(record, serials=(leaf.serial,), fingerprints=(leaf.fingerprint,))
        return node.store.put_member(view, ours, epoch(), record.serials) or None

    with node.renewing, needs_quorum(node, "write a certificate down"):
        if until_written("write a certificate down", attempt):
            log.info("the certificate in use is written down")


def retire_others(node: Node) -> None:
    """Revoke all certificates of this server but the one in use.

    Raises:
        EtcdError: the store did not answer; nothing was changed.
    """

    def attempt() -> bool | None:
        view = node.store.read()
        record, leaf = view.members.get(node.name), node.credentials.leaf
        if record is None or leaf.fingerprint not in record.fingerprints:
            return False
        others = [serial for serial in record.serials if serial != leaf.serial]
        if not others:
            return False
        only = replace(record, serials=(leaf.serial,), fingerprints=(leaf.fingerprint,))
        return node.store.put_member(view, only, epoch(), others) or None

    with node.renewing:
        if until_written("revoke old certificates", attempt):
            log.info("all certificates but one were revoked kept=%s", node.credentials.leaf.serial)
