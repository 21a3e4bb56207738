"""What a hostile peer may send, as strategies of hypothesis.

It sends nothing, and does not judge.

Invariants:
  * No input is one that a member may send and that would change who is a member: a finding is
    never the effect of an order that was carried out as it should be.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from collective.model.fingerprint import fingerprint_of
from collective.model.token import Token
from collective.protocol import messages
from tests.fuzz.certificates import good, hostile

CERTIFICATE = good("mgt9", "127.0.0.9").pem
_HOSTILE = [made.pem for made in hostile("mgt9", "127.0.0.9").values()]
TOKEN = Token("mgt9", b"s" * 32, b"p" * 32).to_text()

_STRANGERS = (
    ("GET", messages.CHALLENGE),
    ("POST", messages.CLAIM),
    ("POST", messages.CONFIRM),
    ("POST", messages.ADMIT),
    ("GET", messages.SUCCESSION),
    ("POST", messages.DELETED),
)
# Without leave and hand-over: their bodies say nothing, so a member's are orders.
# Without watch: it is answered when something happens, if ever.
_MEMBERS = (
    ("GET", messages.STATUS),
    ("POST", messages.SYNC),
    ("POST", messages.GIVE_UP),
    ("GET", messages.RETURN),
    ("GET", messages.SELF),
    ("POST", messages.CERTIFICATE),
    ("POST", messages.READDRESS),
    ("POST", messages.WHEREABOUTS),
    ("POST", messages.COMMAND),
    ("POST", messages.LEARNER),
    ("POST", messages.ETCD + "/kv/range"),
    ("POST", messages.ETCD + "/kv/txn"),
    ("POST", messages.ETCD + "/kv/put"),
    ("POST", messages.ETCD + "/lease/grant"),
    ("POST", messages.ETCD + "/lease/keepalive"),
    ("POST", messages.ETCD + "/lease/revoke"),
)
_SHUT_TO_ALL = (("POST", messages.LEAVE), ("POST", messages.HAND_OVER))


@dataclass(frozen=True)
class Input:
    """What is sent on one connection.

    Attributes:
        requests: octets, one request each where ``app``.
        whole: whether an answer is due to each, until one says that the connection ends.
        member: whether it comes with a member's certificate.
    """

    requests: tuple[bytes, ...]
    whole: bool
    member: bool = False


_text = st.text(st.characters(exclude_categories=()), max_size=40)
_scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.sampled_from([-1, 0, 1, 65535, 65536, 1 << 63, 1 << 64, 10**400])
    | st.floats()
    | _text
    | st.sampled_from(["", "\ud800", "\0", "../..", "a" * 9000, TOKEN, "127.0.0.1", "::1%lo"])
)
values = st.recursive(
    _scalars,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(_text, inner, max_size=4),
    max_leaves=12,
)


@st.composite
def _changed(draw: st.DrawFn, good: bytes) -> bytes:
    """Change, drop or insert a few octets."""
    octets = bytearray(good)
    for _ in range(draw(st.integers(1, 4))):
        position = draw(st.integers(0, max(0, len(octets) - 1)))
        how = draw(st.sampled_from(("flip", "drop", "insert", "cut")))
        if how == "flip" and octets:
            octets[position] ^= 1 << draw(st.integers(0, 7))
        elif how == "drop":
            del octets[position : position + draw(st.integers(1, 8))]
        elif how == "insert":
            octets[position:position] = draw(st.binary(min_size=1, max_size=8))
        elif how == "cut":
            del octets[position:]
    return bytes(octets)


def _der(pem: str) -> bytes:
    return base64.b64decode("".join(pem.strip().split("\n")[1:-1]))


def _pem(der: bytes) -> str:
    body = base64.encodebytes(der).decode()
    return f"-----BEGIN CERTIFICATE-----\n{body}-----END CERTIFICATE-----\n"


certificates: SearchStrategy[str] = (
    _changed(_der(CERTIFICATE)).map(_pem)
    | st.sampled_from(_HOSTILE).flatmap(lambda pem: _changed(_der(pem))).map(_pem)
    | _changed(CERTIFICATE.encode()).map(lambda octets: octets.decode("latin-1"))
    | st.sampled_from(_HOSTILE)
    | st.sampled_from([CERTIFICATE, CERTIFICATE * 2, "x" * 17_000 + CERTIFICATE, ""])
)
_fingerprints = st.sampled_from(
    [fingerprint_of(CERTIFICATE), "0" * 64, "A" * 64, "0" * 65, "", "../" * 21, "\u0661" * 64]
)
tokens: SearchStrategy[str] = (
    _changed(TOKEN.encode()).map(lambda octets: octets.decode("latin-1")) | _text | st.just(TOKEN)
)

_FIELDS: Mapping[str, SearchStrategy[Any]] = {
    "format": st.just(1),
    "name": st.sampled_from(["mgt9", "mgt1", "mgt2", "nobody"]) | tokens,
    "role": st.sampled_from(["voter", "invited", "nonvoting", "learner"]),
    "certificate": certificates | certificates | _fingerprints | st.just("\ud800"),
    "fingerprint": _fingerprints,
    "places": st.dictionaries(
        st.sampled_from(["mgt2", "mgt9", ""]), st.sampled_from(["::1%lo", "nowhere"]), max_size=3
    ),
    "addresses": st.lists(
        st.sampled_from(["127.0.0.9", "::1", "10.0.0.1", "0.0.0.0", "224.0.0.1"]), max_size=17
    ),
    "door_port": st.integers(1, 65535),
    "peer_port": st.integers(1, 65535),
    "signature": st.binary(max_size=70).map(bytes.hex),
    "dry_run": st.booleans(),
    "address": st.sampled_from(["127.0.0.1", "nowhere"]),
    "nonce": _text,
    "revision": st.sampled_from([-1, 0, 1, True, 1.5, "1"]),
    "command": st.sampled_from(["invite", "show", "replace", "promote", "nothing"]),
    "arguments": st.dictionaries(
        st.sampled_from(["server", "force", "member"]), values | st.just("nobody"), max_size=3
    ),
    "body": st.dictionaries(
        st.sampled_from(["key", "range_end", "TTL", "compare", "success", "create_request"]),
        values,
        max_size=4,
    ),
    "seconds": _scalars,
}


@st.composite
def _objects(draw: st.DrawFn) -> dict[str, Any]:
    """Make a message in which most fields are good, so that the others are looked at."""
    fields = {key: draw(_FIELDS[key]) for key in _FIELDS if draw(st.integers(0, 9))}
    for key in draw(st.lists(st.sampled_from(sorted(_FIELDS)), max_size=3)):
        fields[key] = draw(values)
    return fields


_bodies: SearchStrategy[bytes] = (
    _objects().map(lambda fields: json.dumps(fields).encode())
    | values.map(lambda value: json.dumps(value).encode())
    | _objects().flatmap(lambda fields: _changed(json.dumps(fields).encode()))
    | st.binary(max_size=200)
    | st.just(b"[" * 30000)
    | st.just(b'{"format":' + b"9" * 5000 + b"}")
)


def _request(method: str, path: str, body: bytes) -> bytes:
    head = f"{method} {path} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n"
    return head.encode() + body


@st.composite
def _whole(draw: st.DrawFn) -> Input:
    member = draw(st.booleans())
    routes = [*_STRANGERS, *_MEMBERS] if member else [*_STRANGERS, *_MEMBERS, *_SHUT_TO_ALL]
    method, path = draw(st.sampled_from(routes))
    requests = [_request(method, path, draw(_bodies))]
    if path in (messages.CLAIM, messages.ADMIT):  # or nothing behind the challenge is reached
        claim = _request("POST", messages.CLAIM, draw(_bodies))
        requests = [_request("GET", messages.CHALLENGE, b""), claim, requests[-1]]
    return Input(tuple(requests), whole=True, member=member)


_targets = (
    st.sampled_from([path for _, path in (*_STRANGERS, *_MEMBERS)]).map(str.encode)
    | st.binary(max_size=40)
    | st.sampled_from([b"/%00", b"/v1/../v1/show", b"//", b"*", b"/?" + b"&" * 99, b"/%ff%fe"])
)
_headers = st.lists(
    st.sampled_from(
        [
            b"Host: x",
            b"Content-Length: 5",
            b"Content-Length: -1",
            b"Content-Length: 99999999999999999999",
            b"Transfer-Encoding: chunked",
            b"Transfer-Encoding: gzip, chunked",
            b"Expect: 100-continue",
            b"Connection: upgrade",
            b"Upgrade: h2c",
            b"Accept: text/plain",
            b" folded",
            b"X: " + b"x" * 17000,
        ]
    )
    | st.binary(max_size=30),
    max_size=6,
)
_chunked = st.sampled_from(
    [b"0\r\n\r\n", b"5\r\nhello\r\n", b"ffffffffffffffff\r\n", b"-1\r\n", b"5;" + b"x" * 9000]
)


@st.composite
def _broken(draw: st.DrawFn) -> Input:
    method = draw(st.sampled_from([b"GET", b"POST", b"PUT", b"HEAD", b"CONNECT", b"\0", b"PRI"]))
    version = draw(st.sampled_from([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/2.0", b"HTTP/9", b""]))
    head = b" ".join((method, draw(_targets), version))
    lines = b"\r\n".join((head, *draw(_headers), b"", b""))
    return Input((lines + draw(_chunked | st.binary(max_size=100)),), whole=False)


inputs: SearchStrategy[Input] = (
    _whole() | _whole() | _broken() | st.binary(max_size=300).map(lambda b: Input((b,), False))
)
