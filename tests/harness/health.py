"""What it means that a collective is whole, read with etcdctl, from the disk, and from ``show``.

It mends nothing, and no rule of it is asked of the code under test.

Invariants:
  * Whatever is wrong is named; the empty list is the only good answer.
"""

from __future__ import annotations

import base64
import hashlib
import json
import ssl
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from collective.model.keyspace import COORDINATION, ONLINE
from tests.harness.server import CommandError, Server
from tests.harness.waiting import HarnessError, wait_until

#: A key beside our records, with the data of whoever uses the collective.
WITNESS = "witness"
_RECORDS = "collective/v1/"
_PEM_BEGIN, _PEM_END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"
_REMOVED_CODE = 6
_MODES = {"voter": "member", "nonvoting": "nonvoting"}
_LOOK_SECONDS = 0.05
_DIAL_SECONDS = 5.0


def wait_until_whole(
    members: Sequence[Server], resting: Sequence[Server] = (), seconds: float = 30.0
) -> None:
    """Wait until a collective is whole: these members, no others, and nothing left half done.

    Args:
        members: who takes part.
        resting: who was deleted, and says so.
        seconds: the deadline.

    Raises:
        HarnessError: it is not; the text names all that is wrong.
    """
    found: list[str] = []

    def whole() -> bool:
        found[:] = ailments(members, resting)
        return not found

    try:
        wait_until(whole, seconds, "a collective that is whole", _LOOK_SECONDS)
    except HarnessError as error:
        raise HarnessError("\n".join([str(error), *found])) from None


def ailments(members: Sequence[Server], resting: Sequence[Server] = ()) -> list[str]:
    """Return all that is wrong with a collective, one sentence each."""
    told = [*_shown(members), *(s for server in resting for s in _not_at_rest(server))]
    if told:  # the dearer questions are for those that seem well
        return told
    voters = [server for server in members if state_of(server)["mode"] == _MODES["voter"]]
    states = [s for server in (*members, *resting) for s in _state(server, server in members)]
    return [*states, *_stored(members, voters, resting)]


def state_of(server: Server) -> dict[str, Any]:
    """Return a server's state file."""
    document: dict[str, Any] = json.loads(Path(server.layout.state, "server.json").read_text())
    return document


def is_in_company(server: Server) -> bool:
    """Whether a server shows itself as a member beside others, or on its way there."""
    document = server.ask_show()
    return document is not None and len(document["members"]) > 1


def records(server: Server) -> dict[str, str]:
    """Return every key and value that a server's etcd reads linearizably.

    What says which daemons run is left out: it comes and goes by itself.
    """
    found = json.loads(server.etcdctl("get", "", "--from-key", "-w", "json").out)
    pairs = {
        base64.b64decode(kv["key"]).decode(): base64.b64decode(kv.get("value", "")).decode()
        for kv in found.get("kvs", ())
    }
    return {k: v for k, v in pairs.items() if not k.startswith(COORDINATION + ONLINE)}


def etcd_members(server: Server) -> dict[str, bool]:
    """Return the members that a server's etcd lists: id, and whether it is a learner."""
    found = json.loads(server.etcdctl("member", "list", "-w", "json").out)["members"]
    return {f"{member['ID']:016x}": member.get("isLearner", False) for member in found}


def _shown(members: Sequence[Server]) -> Iterator[str]:
    """Compare what each member shows."""
    wanted = {server.name: "active" for server in members}
    leaders = set()
    for server in members:
        document = server.ask_show()
        if document is None:
            yield f"{server.name} does not answer"
            continue
        states = {member["name"]: member["state"] for member in document["members"]}
        leaders.add(document["leader"])
        if document["restarting"] is not None:
            yield f"{server.name} shows a restart under way: {document['restarting']}"
        if not document["quorum"] or states != wanted:
            told = f"quorum {document['quorum']}, {states}, {document['errors']}"
            yield f"{server.name} shows {told}"
    if len(leaders) > 1:
        yield f"several leaders are shown: {leaders}"


def _not_at_rest(server: Server) -> Iterator[str]:
    if not server.is_removed:
        yield f"{server.name} does not say that it was deleted"
    elif (code := server.run("show").code) != _REMOVED_CODE:
        yield f"show on {server.name} ended with {code}"


def shown_certificate(server: Server) -> str:
    """Return the fingerprint of the certificate that a server's door shows, "" for none."""
    place = (state_of(server)["address"], server.port)  # it may have moved
    try:
        pem = ssl.get_server_certificate(place, timeout=_DIAL_SECONDS)
    except OSError:
        return ""
    return _fingerprint(pem)


def certificates_in(path: Path) -> list[str]:
    """Return the fingerprints of the certificates in a PEM file, none where there is no file."""
    text = path.read_text() if path.exists() else ""
    parts = (part.partition(_PEM_END)[0] for part in text.split(_PEM_BEGIN)[1:])
    return [_fingerprint(f"{_PEM_BEGIN}{part}{_PEM_END}\n") for part in parts]


def _fingerprint(pem: str) -> str:
    return hashlib.sha256(ssl.PEM_cert_to_DER_cert(pem)).hexdigest()


def _state(server: Server, is_member: bool) -> Iterator[str]:
    state = state_of(server)
    votes = state["mode"] == _MODES["voter"]
    if is_member and (state["mode"] not in _MODES.values() or (votes and not state["started"])):
        yield f"the state file of {server.name} says {state['mode']}, started {state['started']}"
    if Path(server.layout.pki, "next.pem").exists():
        yield f"{server.name} has a next certificate that it does not show"
    if certificates_in(Path(server.layout.pki, "server.pem")) != [shown_certificate(server)]:
        yield f"the door of {server.name} does not show the certificate of its folder"
    try:
        partial = [str(p) for p in Path(server.layout.data).rglob(".*.tmp")]
    except FileNotFoundError as error:  # a folder was moved while it was looked into
        partial = [str(error)]
    if partial:
        yield f"{server.name} has half-written files: {partial}"


def _stored(
    members: Sequence[Server], voters: Sequence[Server], resting: Sequence[Server]
) -> Iterator[str]:
    """Compare the records with etcd's own list, as each voter has them."""
    names = {server.name for server in members}
    shown = {server.name: shown_certificate(server) for server in members}
    former = {server.name: shown_certificate(server) for server in resting}
    for server in voters:
        try:
            stored, listed = records(server), etcd_members(server)
        except CommandError as error:
            yield str(error)
            continue
        documents = {
            key.removeprefix(_RECORDS): json.loads(value)
            for key, value in stored.items()
            if key.startswith(_RECORDS)
        }
        yield from (f"{server.name} has {s}" for s in _unlike(names, documents, listed))
        yield from (f"{server.name} has {s}" for s in _untrue(documents, shown, former))
        yield from _untaken(server, documents, voters, shown)
        if WITNESS not in stored:
            yield f"{server.name} has lost what was written"


def _unlike(names: set[str], documents: dict[str, Any], listed: dict[str, bool]) -> Iterator[str]:
    by_name = {k.removeprefix("members/"): d for k, d in documents.items() if "members/" in k}
    if set(by_name) != names:
        yield f"records of {sorted(by_name)}, not of {sorted(names)}"
    roles = {name: d["role"] for name, d in by_name.items() if d["role"] not in _MODES}
    if roles:
        yield f"unsettled roles: {roles}"
    ids = {d["member_id"] for d in by_name.values() if d["role"] == "voter"}
    if listed != dict.fromkeys(ids, False):
        yield f"records of the ids {sorted(ids)}, but in etcd (learner or not) {listed}"
    pending = sorted(k for k in documents if k.startswith("invitations/") and k[12:] in names)
    if pending:
        yield f"invitations for members: {pending}"
    change = documents.get("change")
    if change is not None and not change["done"]:
        yield f"a change under way: {change}"
    if "turn" in documents:
        yield f"a turn that did not end: {documents['turn']}"


def _untrue(
    documents: dict[str, Any], shown: dict[str, str], former: dict[str, str]
) -> Iterator[str]:
    """Compare the certificates that records list with those that doors show."""
    revoked = {k.removeprefix("revoked/") for k in documents if k.startswith("revoked/")}
    for name, fingerprint in shown.items():
        pems = documents.get(f"members/{name}", {}).get("certificates", [])
        listed = [_fingerprint(pem) for pem in pems]
        if listed != [fingerprint]:
            yield f"for {name} the certificates {listed}, and it shows {fingerprint}"
    for name, fingerprint in {**shown, **former}.items():
        if fingerprint in revoked:
            yield f"revoked what {name} shows: {fingerprint}"
    told = {k.removeprefix("trust/") for k in documents if k.startswith("trust/")}
    strangers = told - shown.keys()
    if strangers:
        yield f"records of whom the etcd of no member lets in: {sorted(strangers)}"


def _untaken(
    server: Server, documents: dict[str, Any], voters: Sequence[Server], shown: dict[str, str]
) -> Iterator[str]:
    """See that a voter's etcd lets in the other voters, and that its record says what it does."""
    loaded = certificates_in(Path(server.layout.pki, "trusted.pem"))
    lacking = [v.name for v in voters if v is not server and shown[v.name] not in loaded]
    if lacking:
        yield f"the etcd of {server.name} does not let in {lacking}"
    told = documents.get(f"trust/{server.name}", {}).get("fingerprints", [])
    if len(voters) > 1 and sorted(told) != sorted(loaded):
        yield f"{server.name} told that its etcd lets in {told}, it was started with {loaded}"
