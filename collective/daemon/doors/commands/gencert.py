"""``collective gencert``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from collective.daemon.certificates import renewal
from collective.daemon.doors.commands.context import Context


def run(context: Context, raw: Mapping[str, Any]) -> Any:
    """Make a new certificate; on a server that rests, a new collective of one."""
    server = context.server
    if server.may_begin_again():
        server.begin_again()
    elif server.node is None:
        raise server.why_idle()
    else:
        renewal.gencert(server.node)
    return {"certificate_ends": server.credentials.leaf.not_after.isoformat()}
