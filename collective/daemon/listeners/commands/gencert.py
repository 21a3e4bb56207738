"""``collective gencert``: another key and certificate for this server."""

from __future__ import annotations

from typing import Any

from collective.daemon.certificates.replacement import replace_certificate
from collective.daemon.lifecycle.lives import certified_here
from collective.daemon.listeners.commands.context import Context
from collective.daemon.member.quorum import needs_quorum, strength_known
from collective.policy.membership import pause_sentence
from collective.protocol.control import Request


def run(context: Context, request: Request) -> Any:
    """Make a new certificate; on a server that rests, a new collective of one."""
    server = context.server
    former = server.credentials.identity
    if server.may_begin_again():
        server.begin_again()
    elif server.runtime is None:
        raise server.why_idle()
    else:
        runtime = server.runtime
        known = strength_known(runtime)
        if runtime.votes and known.voters > 1 and known.spare == 0:
            context.emit("pause", pause_sentence(known.answering - 1))
        # In turn first: a change of the address that is under way decides what is to be named.
        with needs_quorum(runtime, "change the certificate"), runtime.replacing:
            replace_certificate(runtime, certified_here(runtime.plan.address), context.emit)
    own = server.credentials.identity
    return {
        "fingerprint": own.fingerprint,
        "serial": own.serial,
        "replaced": former.fingerprint if former != own else None,
    }
