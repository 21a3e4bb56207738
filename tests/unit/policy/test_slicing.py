"""A range that is read a few keys at a time."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest

from collective.errors import EtcdError
from collective.policy.slicing import ANSWER_BYTES, Slices
from tests.harness.fake_etcd import FakeEtcd


def b64(raw: bytes) -> str:
    return base64.b64encode(raw).decode()


BODY = {"key": b64(b"k/"), "range_end": b64(b"k0")}


def filled(sizes: list[int]) -> FakeEtcd:
    etcd = FakeEtcd()
    for number, size in enumerate(sizes):
        put = {"key": b64(b"k/%06d" % number), "value": b64(b"x" * size)}
        etcd.call("/kv/txn", {"success": [{"request_put": put}]})
    return etcd


def read(etcd: FakeEtcd, body: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """Return the answer, and how many keys each slice asked for."""
    slices, limits = Slices(body), []
    while not slices.is_done:
        request = slices.request()
        limits.append(int(request["limit"]))
        slices.take(etcd.call("/kv/range", request))
    return slices.answer(), limits


@pytest.mark.parametrize("count", [0, 1, 3, 4, 5, 36, 37, 400])
def test_all_is_read_as_if_it_were_asked_for_at_once(count: int) -> None:
    """The answer is etcd's own."""
    etcd = filled([10] * count)
    answer, _ = read(etcd, BODY)
    whole = etcd.call("/kv/range", BODY)
    assert answer.get("kvs", []) == whole["kvs"]
    assert answer["header"] == whole["header"]
    assert answer["count"] == whole["count"]
    assert "more" not in answer


@pytest.mark.parametrize("limit", [1, 3, 4, 5, 40])
def test_limit_of_the_caller_holds(limit: int) -> None:
    """And it hears that there is more."""
    answer, _ = read(filled([10] * 50), {**BODY, "limit": str(limit)})
    assert len(answer["kvs"]) == limit
    assert answer["more"]


def test_large_values_are_read_one_by_one_and_no_more_than_one_answer_holds() -> None:
    """However much the caller asks for."""
    answer, limits = read(filled([1 << 20] * 12), {**BODY, "limit": "4096"})
    assert limits[0] <= 4
    assert set(limits[1:]) <= {1}
    size = sum(len(kv["value"]) for kv in answer["kvs"])
    assert size < 2 * ANSWER_BYTES
    assert answer["more"]


def test_number_grows_where_keys_are_small_and_shrinks_where_they_are_not() -> None:
    """By a bounded factor, to a bounded number."""
    _, limits = read(filled([10] * 1200 + [20_000] * 300), BODY)
    assert limits[:4] == [4, 32, 256, 512]
    assert max(limits) == 512
    assert limits[-1] < 512


def test_all_slices_are_of_one_revision() -> None:
    """That of the first, or the one that was asked for."""
    etcd = filled([10] * 10)
    for body in (BODY, {**BODY, "revision": "0"}):
        slices = Slices(body)
        slices.take(etcd.call("/kv/range", slices.request()))
        assert slices.request()["revision"] == "11"
    assert Slices({**BODY, "revision": "7"}).request()["revision"] == "7"


@pytest.mark.parametrize("answer", [{}, {"header": {}}, {"header": {"revision": "x"}}])
def test_answer_that_is_none_is_an_error(answer: Any) -> None:
    """And not the end of the range."""
    with pytest.raises(EtcdError):
        Slices(BODY).take(answer)
