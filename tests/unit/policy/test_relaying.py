"""What a member that does not vote may ask of etcd, and in which form."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.errors import AccessError, CollectiveError, EtcdError, InputError, ProtocolError
from collective.model.keyspace import (
    COORDINATION,
    COORDINATION_ROOT,
    EVERYTHING,
    GUARDS,
    MOST_READS,
    ONLINE,
    STORE,
    online_key,
)
from collective.model.lease_ids import is_of, new_lease_id
from collective.model.view import PREFIX, invitation_key, member_key
from collective.policy.relaying import (
    CALLS,
    MOST_TTL,
    Guard,
    guarded,
    is_guarded,
    is_long,
    is_repeatable,
    is_serializable,
    operations_of,
    puts_anything,
    relayed,
    unguarded,
    veiled,
)

ASKER = "mgt4"
OWN, OTHERS = str(new_lease_id(ASKER)), str(new_lease_id("mgt1"))

#: Every call of etcd's gateway, 3.4 to 3.6 (rpc.proto, v3lock.proto, v3election.proto), and
#: whether it passes.
ETCD: dict[str, bool] = {
    "/kv/range": True,
    "/kv/put": True,
    "/kv/deleterange": True,
    "/kv/txn": True,
    "/kv/compaction": False,
    "/kv/lease/revoke": False,
    "/kv/lease/timetolive": False,
    "/kv/lease/leases": False,
    "/watch": True,
    "/lease/grant": True,
    "/lease/keepalive": True,
    "/lease/revoke": True,
    "/lease/timetolive": True,
    "/lease/leases": False,
    "/cluster/member/add": False,
    "/cluster/member/remove": False,
    "/cluster/member/update": False,
    "/cluster/member/list": True,
    "/cluster/member/promote": False,
    "/maintenance/alarm": False,
    "/maintenance/status": True,
    "/maintenance/defragment": False,
    "/maintenance/hash": False,
    "/maintenance/hashkv": False,
    "/maintenance/snapshot": False,
    "/maintenance/transfer-leadership": False,
    "/maintenance/downgrade": False,
    "/auth/enable": False,
    "/auth/disable": False,
    "/auth/status": False,
    "/auth/authenticate": False,
    "/auth/user/add": False,
    "/auth/user/get": False,
    "/auth/user/list": False,
    "/auth/user/delete": False,
    "/auth/user/changepw": False,
    "/auth/user/grant": False,
    "/auth/user/revoke": False,
    "/auth/role/add": False,
    "/auth/role/get": False,
    "/auth/role/list": False,
    "/auth/role/delete": False,
    "/auth/role/grant": False,
    "/auth/role/revoke": False,
    "/lock/lock": False,
    "/lock/unlock": False,
    "/election/campaign": False,
    "/election/proclaim": False,
    "/election/leader": False,
    "/election/observe": False,
    "/election/resign": False,
}


def b64(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def put(key: str, **more: Any) -> dict[str, Any]:
    return {"key": b64(key), "value": b64("v"), **more}


def txn(*success: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"compare": [], "success": list(success), **more}


def span(begin: str, end: str) -> dict[str, Any]:
    return {"key": b64(begin), "range_end": b64(end)}


def compare(key: str) -> dict[str, Any]:
    return {"key": b64(key), "target": "MOD", "result": "EQUAL", "mod_revision": "3"}


#: What is let through of each call, one at least.
GOOD: list[tuple[str, dict[str, Any]]] = [
    ("/kv/range", span(PREFIX, "collective/v10")),
    ("/kv/range", {**span(EVERYTHING, "collective0"), "limit": "16", "serializable": True}),
    ("/kv/range", {"key": b64(EVERYTHING), "count_only": True}),
    ("/kv/range", {"key": b64(STORE + "a"), "sort_order": "NONE", "sort_target": "KEY"}),
    ("/kv/put", put(STORE + "x")),
    ("/kv/put", put(COORDINATION + "x", lease=OWN)),
    ("/kv/put", put("collective/coordination/v2/x", lease=int(OWN))),
    ("/kv/deleterange", span(STORE, "collective/store0")),
    ("/kv/deleterange", {"key": b64(STORE + "x")}),
    ("/kv/txn", txn({"request_put": put(STORE + "x")}, compare=[compare(member_key("mgt1"))])),
    ("/kv/txn", txn({"request_txn": txn({"request_range": {"key": b64(STORE + "x")}})})),
    ("/kv/txn", {}),
    (
        "/kv/txn",
        {
            "compare": [{"key": b64(GUARDS + "mgt4/1.0"), "version": "7"}],
            "success": [{"request_put": put(GUARDS + "mgt4/1.0", lease=OWN)}],
        },
    ),
    ("/kv/deleterange", span(GUARDS + "mgt4/", GUARDS + "mgt40")),
    ("/lease/grant", {"TTL": "5"}),
    ("/lease/grant", {"TTL": str(MOST_TTL), "ID": OWN}),
    ("/lease/keepalive", {"ID": OWN}),
    ("/lease/timetolive", {"ID": OTHERS}),
    ("/lease/revoke", {"ID": int(OWN)}),
    ("/cluster/member/list", {}),
    ("/maintenance/status", {}),
    ("/watch", {"create_request": {**span(PREFIX, "collective/v10"), "start_revision": "7"}}),
    ("/watch", {"create_request": span("\0", "\0")}),
]


def test_table_is_all_that_passes_of_all_that_etcd_has() -> None:
    """A call that is added to the table has to be added here, and thought over."""
    assert set(CALLS) == {path for path, passes in ETCD.items() if passes}
    assert {path for path, _ in GOOD} == set(CALLS)


@pytest.mark.parametrize("path", [*ETCD, "/kv/../kv/txn", "/kv/txn/", "/KV/txn", ""])
def test_path_that_is_not_listed_is_refused(path: str) -> None:
    """Membership, maintenance, users and leases at large are for voters, whatever the body."""
    if ETCD.get(path, False):
        return
    with pytest.raises(AccessError, match="may not ask etcd for"):
        relayed(path, ASKER, {})
    assert not is_repeatable(path)


@pytest.mark.parametrize(("path", "body"), GOOD, ids=range(len(GOOD)))
def test_what_a_member_needs_passes(path: str, body: dict[str, Any]) -> None:
    """Reads of all that is the collective's, and writes of what is the embedders'."""
    sent = relayed(path, ASKER, body)
    assert relayed(path, ASKER, sent) == sent, "what is sent would be let through itself"


@pytest.mark.parametrize("path", [path for path, passes in ETCD.items() if passes])
def test_field_that_is_not_listed_is_refused_by_every_call(path: str) -> None:
    """Whatever etcd would make of it."""
    for field in ("prev_kv", "ignore_lease", "rangeEnd", "id", "Key", "min_mod_revision"):
        with pytest.raises(ProtocolError, match="unknown"):
            relayed(path, ASKER, {field: True})


OUTSIDE = [
    ("/kv/range", {"key": b64("x")}),
    ("/kv/range", {"key": b64("\0")}),
    ("/kv/range", {}),
    ("/kv/range", span("a", "z")),
    ("/kv/range", span(EVERYTHING, "collective1")),
    ("/kv/range", span(EVERYTHING, "\0")),
    ("/kv/range", span("\0", "\0")),
    ("/kv/txn", txn({"request_range": {"key": b64("x")}})),
    ("/kv/txn", txn(compare=[compare("x")])),
    ("/watch", {"create_request": {"key": b64("x")}}),
    ("/watch", {"create_request": span("a", "\0")}),
    ("/watch", {"create_request": {}}),
]


@pytest.mark.parametrize(("path", "body"), OUTSIDE)
def test_what_is_not_the_collective_s_is_not_read(path: str, body: dict[str, Any]) -> None:
    """Neither alone, nor in a range, nor by comparing."""
    with pytest.raises(AccessError, match="below collective/"):
        relayed(path, ASKER, body)


RECORDS = [
    ("/kv/put", put(member_key("mgt4"))),
    ("/kv/put", put(invitation_key("mgt5"))),
    ("/kv/put", put(PREFIX + "change")),
    ("/kv/put", put("collective/v2/members/mgt4")),
    ("/kv/put", put("collective/other")),
    ("/kv/put", put("others/x")),
    ("/kv/put", put("")),
    ("/kv/deleterange", {"key": b64(PREFIX + "revoked/1")}),
    ("/kv/deleterange", span("a", "z")),
    ("/kv/deleterange", span("others/", "others0")),
    ("/kv/deleterange", span("a", PREFIX)),
    ("/kv/deleterange", span("a", "\0")),
    ("/kv/deleterange", span(STORE, "\0")),
    ("/kv/deleterange", span(STORE, "collective/v2")),
    ("/kv/deleterange", span(PREFIX, PREFIX + "z")),
    ("/kv/deleterange", span(invitation_key("a"), invitation_key("b"))),
    ("/kv/txn", txn({"request_put": put(member_key("mgt4"))})),
    ("/kv/txn", txn(failure=[{"request_put": put(member_key("mgt4"))}])),
    ("/kv/txn", txn({"request_txn": txn({"request_delete_range": {"key": b64(PREFIX)}})})),
]


@pytest.mark.parametrize(("path", "body"), RECORDS)
def test_records_are_not_written(path: str, body: dict[str, Any]) -> None:
    """Neither one by one, nor in a range, in another branch or in a nested transaction."""
    with pytest.raises(AccessError, match="no record"):
        relayed(path, ASKER, body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/kv/put", put(GUARDS + "mgt1/1.0")),
        ("/kv/put", put(GUARDS + "mgt41/1.0")),
        ("/kv/put", put(GUARDS)),
        ("/kv/deleterange", {"key": b64(GUARDS + "mgt1/1.0")}),
        ("/kv/deleterange", span(GUARDS + "mgt4/", GUARDS + "mgt5/")),
        ("/kv/deleterange", span(COORDINATION_ROOT, "collective/coordination0")),
        ("/kv/txn", txn({"request_txn": txn({"request_put": put(GUARDS + "mgt1/1.0")})})),
    ],
)
def test_guard_of_another_server_is_not_touched(path: str, body: dict[str, Any]) -> None:
    """Who writes it says what became of that server's writes."""
    with pytest.raises(AccessError, match="writes no guard but its own"):
        relayed(path, ASKER, body)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/kv/put", put(COORDINATION + online_key("mgt1"))),
        ("/kv/put", put(COORDINATION + online_key(ASKER) + "/x")),
        ("/kv/put", put(COORDINATION + online_key(ASKER) + "1")),
        ("/kv/deleterange", span(COORDINATION + ONLINE, COORDINATION + "online0")),
        ("/kv/deleterange", span(COORDINATION + online_key(ASKER), COORDINATION + "online0")),
    ],
)
def test_presence_of_another_server_is_not_touched(path: str, body: dict[str, Any]) -> None:
    """Who writes it says that the other one is there, or is gone."""
    with pytest.raises(AccessError, match="writes no presence but its own"):
        relayed(path, ASKER, body)


def test_presence_of_the_asker_is_written() -> None:
    """By its daemon, through a voter."""
    assert relayed("/kv/put", ASKER, put(COORDINATION + online_key(ASKER), lease=OWN))


@pytest.mark.parametrize(
    "number",
    [OTHERS, str(new_lease_id("")), "1", "0", str(1 << 63)],
    ids=["another's", "collective's", "etcd's", "none", "no lease"],
)
def test_lease_of_another_is_not_touched(number: str) -> None:
    """It is not granted, prolonged, revoked, or bound to."""
    nested = txn({"request_txn": txn({"request_put": put(STORE + "x", lease=number)})})
    asked: list[tuple[str, dict[str, Any]]] = [
        ("/lease/keepalive", {"ID": number}),
        ("/lease/revoke", {"ID": number}),
    ]
    if number != "0":
        asked += [
            ("/lease/grant", {"TTL": "5", "ID": number}),
            ("/kv/put", put(STORE + "x", lease=number)),
            ("/kv/txn", txn({"request_put": put(STORE + "x", lease=int(number))})),
            ("/kv/txn", txn(failure=[{"request_put": put(STORE + "x", lease=number)}])),
            ("/kv/txn", nested),
        ]
    for path, body in asked:
        with pytest.raises(AccessError, match="is none of mgt4's"):
            relayed(path, ASKER, body)


@pytest.mark.parametrize("body", [{}, {"ID": ""}, {"ID": "1e3"}, {"ID": -1}, {"ID": True}])
def test_lease_that_is_no_number_is_refused(body: dict[str, Any]) -> None:
    """What etcd would make of it is not found out."""
    for path in ("/lease/revoke", "/lease/keepalive"):
        with pytest.raises((AccessError, ProtocolError)):
            relayed(path, ASKER, body)


def test_lease_without_an_id_is_given_one_of_the_asker() -> None:
    """So that it can be prolonged at any voter, and by nobody else."""
    sent = relayed("/lease/grant", ASKER, {"TTL": 5})
    assert sent["TTL"] == "5"
    assert is_of(ASKER, int(sent["ID"]))
    assert is_of(ASKER, int(relayed("/lease/grant", ASKER, {"TTL": 5, "ID": "0"})["ID"]))


@pytest.mark.parametrize("seconds", ["0", str(MOST_TTL + 1), "9000000000"])
def test_lease_of_another_time_than_is_allowed_is_refused(seconds: str) -> None:
    """The limits are named."""
    with pytest.raises(InputError, match=f"from 1 s to {MOST_TTL} s"):
        relayed("/lease/grant", ASKER, {"TTL": seconds, "ID": OWN})


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/kv/put", {"key": "!"}),
        ("/kv/put", {"key": 5}),
        ("/kv/put", put(STORE + "x", lease="x")),
        ("/kv/range", {"key": b64(STORE), "limit": "-1"}),
        ("/kv/range", {"key": b64(STORE), "sort_order": "DESCEND"}),
        ("/kv/range", {"key": b64(STORE), "sort_target": "MOD"}),
        ("/kv/range", {"key": b64(STORE), "serializable": "yes"}),
        ("/kv/txn", {"success": {"request_put": {}}}),
        ("/kv/txn", txn({"requestPut": put(STORE + "x")})),
        ("/kv/txn", txn({"request_put": put(STORE + "x"), "request_range": {}})),
        ("/kv/txn", txn({"request_put": []})),
        ("/kv/txn", txn({"request_txn": txn({"request_txn": txn({"request_txn": txn()})})})),
        ("/kv/txn", txn({"request_txn": {"request_txn": {}}})),
        ("/watch", {"cancel_request": {}}),
        ("/watch", {"create_request": {**span(STORE, STORE + "z"), "prev_kv": True}}),
        ("/watch", {"create_request": []}),
    ],
)
def test_what_etcd_could_read_otherwise_is_refused(path: str, body: dict[str, Any]) -> None:
    """Another spelling, a broken form, a depth that nobody needs."""
    if path == "/kv/txn" and "request_txn" in str(body):
        body = txn({"request_txn": body})
    with pytest.raises(ProtocolError):
        relayed(path, ASKER, body)


def test_transaction_reads_few_single_keys() -> None:
    """Its answer comes whole, however large, and cannot be divided."""
    read = {"request_range": {"key": b64(STORE + "x")}}
    relayed("/kv/txn", ASKER, txn(*[read] * MOST_READS))
    nested = txn({"request_txn": txn(*[read] * MOST_READS)}, failure=[read])
    with pytest.raises(InputError, match=f"at most {MOST_READS}"):
        relayed("/kv/txn", ASKER, nested)
    with pytest.raises(AccessError, match="single keys"):
        relayed("/kv/txn", ASKER, txn({"request_range": span(STORE, STORE + "z")}))


def test_operations_of_all_branches_are_counted() -> None:
    """A large transaction waits for a place."""
    put = {"request_put": {"key": b64(STORE + "x"), "value": ""}}
    sent = relayed("/kv/txn", ASKER, txn(put, {"request_txn": txn(put, failure=[put])}))
    assert operations_of(sent) == 3
    assert operations_of(relayed("/kv/put", ASKER, put["request_put"])) == 0


def test_who_says_that_it_is_there_says_so_under_a_lease() -> None:
    """Else it would be there for ever."""
    key = b64(COORDINATION + online_key(ASKER))
    relayed("/kv/put", ASKER, {"key": key, "value": "", "lease": OWN})
    for body in ({"key": key, "value": ""}, {"key": key, "value": "", "lease": "0"}):
        with pytest.raises(AccessError, match="under a lease"):
            relayed("/kv/txn", ASKER, txn({"request_put": body}))


def test_transaction_removes_few_ranges() -> None:
    """Each is looked through by every voter, and nothing else is done meanwhile."""
    removal = {"request_delete_range": span(STORE, STORE[:-1] + "0")}
    single = {"request_delete_range": {"key": b64(STORE + "x")}}
    relayed("/kv/txn", ASKER, txn(*[removal] * MOST_READS, *[single] * MOST_READS))
    with pytest.raises(InputError, match=f"at most {MOST_READS}"):
        relayed("/kv/txn", ASKER, txn(*[removal] * MOST_READS, {"request_txn": txn(removal)}))


def test_watch_is_asked_for_in_fragments() -> None:
    """Whatever the member says: else one line has what a thousand revisions wrote."""
    for more in ({}, {"fragment": False}):
        body = {"create_request": {**span("\0", "\0"), **more}}
        assert relayed("/watch", ASKER, body)["create_request"]["fragment"] is True


RECORD_KEYS = (
    member_key("mgt1"),
    PREFIX + "change",
    PREFIX + "revoked/ff",
    invitation_key("a"),
    GUARDS + "mgt1/1.0",
    "x",
    "collective",
    "collective0",
)


@given(
    key=st.binary(max_size=30),
    end=st.one_of(st.just(b""), st.binary(max_size=30), st.just(b"collective/store0")),
    space=st.sampled_from([b"", b"collective/", PREFIX.encode(), STORE.encode()]),
)
def test_deletion_that_passes_never_reaches_a_record(key: bytes, end: bytes, space: bytes) -> None:
    """The safety property, for any range: none of a set of records is in it."""
    begin = space + key
    for last in (end, space + end if end else end):
        body = {
            "key": base64.b64encode(begin).decode(),
            "range_end": base64.b64encode(last).decode(),
        }
        try:
            relayed("/kv/deleterange", ASKER, body)
        except CollectiveError:
            continue
        for record in RECORD_KEYS:
            one = record.encode()
            reached = one == begin if not last else begin <= one and (last == b"\0" or one < last)
            assert not reached


def event(key: str, revision: int, value: str = "v") -> dict[str, Any]:
    return {"kv": {"key": b64(key), "mod_revision": str(revision), "value": b64(value)}}


def line(*events: dict[str, Any], spaced: bool = False) -> bytes:
    result = {"result": {"header": {"revision": "9"}, "events": list(events)}}
    return json.dumps(result, separators=None if spaced else (",", ":")).encode()


@pytest.mark.parametrize("spaced", [False, True])
def test_watch_tells_of_others_keys_that_there_was_one(spaced: bool) -> None:
    """The revision is told, and neither key nor value; whatever else is in the line stays."""
    ours, theirs = event(STORE + "a", 8), event("secret/b", 9, "password")
    assert veiled(line(ours, spaced=spaced)) == line(ours, spaced=spaced)
    told = json.loads(veiled(line(ours, theirs, spaced=spaced)))["result"]
    assert told["events"] == [ours, {"kv": {"key": "", "mod_revision": "9"}}]
    assert told["header"] == {"revision": "9"}
    assert b64("password").encode() not in veiled(line(theirs))


def test_line_without_events_passes_as_it_is() -> None:
    """Also one that is no JSON, which the reader judges."""
    for raw in (b'{"result":{"created":true}}', b"x"):
        assert veiled(raw) == raw


@given(st.binary(max_size=20))
def test_no_key_of_others_passes(key: bytes) -> None:
    """However near it is to ours."""
    for full in (key, b"collective" + key, b"collectivd/" + key, b"collective/" + key):
        raw = {"key": base64.b64encode(full).decode(), "mod_revision": "3"}
        told = json.loads(veiled(line({"kv": raw})))["result"]["events"][0]["kv"]
        assert (told["key"] == raw["key"]) is (full.startswith(b"collective/") or full == b"")


def test_operation_is_done_while_the_record_is_unchanged() -> None:
    """The guard is a compare; what comes back has the header of the whole."""
    body = {"key": b64("x")}
    sent = guarded("/kv/range", body, Guard(member_key("mgt4"), 7))
    assert sent == {
        "compare": [
            {
                "key": b64(member_key("mgt4")),
                "target": "MOD",
                "result": "EQUAL",
                "mod_revision": "7",
            }
        ],
        "success": [{"request_range": body}],
    }
    answer = {
        "header": {"revision": "9"},
        "succeeded": True,
        "responses": [{"response_range": {"header": {}, "kvs": []}}],
    }
    assert unguarded("/kv/range", answer) == {"header": {"revision": "9"}, "kvs": []}
    assert unguarded("/kv/range", {"header": {}}) is None
    with pytest.raises(EtcdError):
        unguarded("/kv/put", answer)


def test_every_operation_on_keys_is_guarded() -> None:
    """And nothing else needs to be."""
    assert {path for path in CALLS if is_guarded(path)} == {
        "/kv/range",
        "/kv/put",
        "/kv/deleterange",
        "/kv/txn",
    }


def test_only_a_range_can_be_serializable_or_long() -> None:
    """Everything else needs the quorum."""
    assert is_serializable("/kv/range", {"serializable": True})
    assert not is_serializable("/kv/range", {})
    assert not is_serializable("/kv/txn", {"serializable": True})
    assert is_long("/kv/range", span(STORE, STORE + "z"))
    assert not is_long("/kv/range", {"key": b64(STORE), "range_end": ""})
    assert not is_long("/kv/range", {**span(STORE, STORE + "z"), "count_only": True})


PUT = {"request_put": {"key": "eA=="}}
DELETE = {"request_delete_range": {"key": "eA=="}}


@pytest.mark.parametrize(
    ("path", "body", "puts"),
    [
        ("/kv/put", {"key": "eA=="}, True),
        ("/kv/deleterange", {"key": "eA=="}, False),
        ("/kv/range", {"key": "eA=="}, False),
        ("/lease/keepalive", {"ID": "1"}, False),
        ("/kv/txn", {}, False),
        ("/kv/txn", {"success": [DELETE]}, False),
        ("/kv/txn", {"success": [DELETE], "failure": [DELETE, PUT]}, True),
        ("/kv/txn", {"success": [{"request_txn": {"failure": [DELETE]}}]}, False),
        ("/kv/txn", {"success": [{"request_txn": {"failure": [DELETE, PUT]}}]}, True),
    ],
)
def test_what_may_make_the_store_larger_is_known(
    path: str, body: dict[str, Any], puts: bool
) -> None:
    """In whatever branch; a deletion makes room."""
    assert puts_anything(path, body) is puts


def test_time_that_a_lease_has_is_told_and_its_keys_are_not() -> None:
    """``invite --list`` says how long an invitation is good; keys may be other software's."""
    assert relayed("/lease/timetolive", ASKER, {"ID": OTHERS}) == {"ID": OTHERS}
    with pytest.raises(ProtocolError):
        relayed("/lease/timetolive", ASKER, {"ID": OTHERS, "keys": True})
