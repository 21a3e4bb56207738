"""The command line of the etcd child, from a plan and the settings.

Pure: it looks at nothing and starts nothing.

Invariants:
  * The client API listens on a unix socket in the working directory and nowhere else.
  * The peer door demands a certificate that is in the trust file and not in the revocation list.
  * No argument is secret: every local user can read them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from collective.model.names import bracketed, peer_url
from collective.model.plan import Plan

# etcd makes a socket file of this very name in its working directory: an absolute path works
# on 3.5.30 only. The advertised client address must look like host:port and is never dialled.
CLIENT_SOCKET = "etcd:1"
_ADVERTISED_CLIENT = "http://localhost:1"
#: How large etcd's database may be; above it etcd takes no write at all.
QUOTA_BYTES = 2 * 1024**3
# etcd takes no less: an election time-out of five heartbeats (server/embed/config.go).
_LEAST_HEARTBEATS = 5
_LEAST_ELECTION_MS = 250
# Operations and bytes of one request: embedders' transactions (``store.values``), with room for
# what they are nested in, and for base64 (docs/adr/0005).
_MOST_OPERATIONS = 16_384
_MOST_REQUEST_BYTES = 8 << 20
# Those of TLS 1.2 for our kind of key that authenticate what they encrypt: none with CBC. TLS 1.3
# has no others, and etcd takes no list for it. HTTP/2 wants the first one (RFC 7540, 9.2.2). The
# last one is written as older releases of etcd know it; newer ones take both names.
CIPHER_SUITES = (
    "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256",
    "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384",
    "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305",
)


@dataclass(frozen=True)
class Files:
    """The paths that etcd reads and writes."""

    data: str
    leaf: str
    trusted: str
    crl: str


@dataclass(frozen=True)
class Timing:
    """Raft timing in milliseconds, and the seconds between two comparisons of the data."""

    heartbeat_ms: int
    election_ms: int
    corruption_check_s: float = 14400.0

    @property
    def alone(self) -> Timing:
        """What a lone voter is started with: it need not leave others the time to be heard.

        etcd makes a lone voter that is restarted wait for a whole election time-out, and writes
        with it: when its initial advance of ticks comes, it knows no member yet (3.4.23, 3.5.16).
        """
        shortest = max(_LEAST_HEARTBEATS * self.heartbeat_ms, _LEAST_ELECTION_MS)
        return replace(self, election_ms=min(self.election_ms, shortest))


def etcd_arguments(plan: Plan, files: Files, timing: Timing, listen: Sequence[str]) -> list[str]:
    """Return the arguments that follow the name of the program.

    Args:
        plan: which member of which cluster this is.
        files: where its files are.
        timing: how often it does what.
        listen: IP addresses for the peer door.

    Strict reconfiguration checks are off: they would hold every join back for 5 s after each
    new voter (etcd's HealthInterval). What they protect is done by ``collective.policy`` and
    the change record in the store, see docs/adr/0002.
    """
    listen_urls = ",".join(f"https://{bracketed(ip)}:{plan.peer_port}" for ip in listen)
    options = {
        "name": plan.name,
        "data-dir": files.data,
        "listen-client-urls": f"unix://{CLIENT_SOCKET}",
        "advertise-client-urls": _ADVERTISED_CLIENT,
        "listen-peer-urls": listen_urls,
        "initial-advertise-peer-urls": peer_url(plan.address, plan.peer_port),
        "initial-cluster": plan.initial_cluster,
        "initial-cluster-state": "existing" if plan.existing else "new",
        "initial-cluster-token": plan.cluster_token,
        "peer-cert-file": files.leaf,
        "peer-key-file": files.leaf,
        "peer-trusted-ca-file": files.trusted,
        "peer-crl-file": files.crl,
        "peer-client-cert-auth": "true",
        "cipher-suites": ",".join(CIPHER_SUITES),
        "heartbeat-interval": str(timing.heartbeat_ms),
        "election-timeout": str(timing.election_ms),
        "pre-vote": "true",
        "strict-reconfig-check": "false",
        "auto-compaction-mode": "periodic",
        "auto-compaction-retention": "1h",
        # The leader compares the hashes of all members' data; a divergent one raises an alarm.
        "experimental-corrupt-check-time": f"{timing.corruption_check_s:.0f}s",
        "quota-backend-bytes": str(QUOTA_BYTES),
        "max-txn-ops": str(_MOST_OPERATIONS),
        "max-request-bytes": str(_MOST_REQUEST_BYTES),
        "logger": "zap",
        "log-level": "info",
    }
    return [f"--{key}={value}" for key, value in options.items()]
