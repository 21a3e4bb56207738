"""The small files of a server, and which damage of each makes it rest.

Written by hand, beside the daemon's own table: a file that comes or goes is a decision.
"""

from __future__ import annotations

_DAMAGED = frozenset({"empty", "garbage", "locked"})
_NONE = frozenset[str]()

#: By name: at which damages the server rests; at the others it goes on.
RESTS = {
    "server.json": _DAMAGED | {"missing", "foreign"},
    "view.json": _DAMAGED | {"missing", "foreign"},
    "server.pem": _DAMAGED | {"missing", "foreign"},
    "next.pem": _DAMAGED | {"foreign"},
    # Of another collective, they are what is left of a former life, and say nothing.
    "promises.json": _DAMAGED,
    "whereabouts.json": _DAMAGED,
    "succession.json": _DAMAGED,
    # Made anew before each start of etcd.
    "trusted.pem": _NONE,
    "crl.der": _NONE,
    "detour.pem": _NONE,
}
#: Those that a server without a vote does not have.
ETCDS_OWN = {"trusted.pem", "crl.der", "detour.pem"}
#: What is locked and never read; one that may not be opened ends the daemon.
LOCKS = ("daemon.lock", "etcd.lock")
