"""Transactions of many callers as one request to etcd, and its answer as the outcome of each.

Pure: it asks nobody. Each caller's transaction travels inside the request as one of its own
(a nested transaction, which etcd knows since 3.3), so each has its own outcome. Conditions are
judged on what was stored before the whole request: that is why ``batching`` never puts two
together of which one writes what the other compares or writes.
"""

from __future__ import annotations

from binascii import a2b_base64
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from collective.errors import EtcdError
from collective.etcd.requests import (
    Body,
    comparison,
    delete_request,
    prefix_end,
    put_request,
    range_request,
)
from collective.model.pairs import paired
from collective.store.values import (
    Condition,
    Delete,
    DeletePrefix,
    Entry,
    Moment,
    Operation,
    Outcome,
    Put,
    Read,
    Result,
    Transaction,
)

_OF_A_TRANSACTION = {"header", "succeeded", "responses"}


def to_wire(transactions: Sequence[Transaction]) -> Body:
    """Return the body of one request to ``/kv/txn`` that does them all."""
    if len(transactions) == 1:
        return _whole(transactions[0])
    return {"success": [_step(transaction) for transaction in transactions]}


def guarded(transactions: Sequence[Transaction], condition: Body, mark: Body) -> Body:
    """Return a request that does them all, and something beside them, where a condition holds.

    Args:
        transactions: whatever there is to do.
        condition: on a key that none of them knows.
        mark: the operation that is done with them.
    """
    steps = [_step(transaction) for transaction in transactions]
    return {"compare": [condition], "success": [*steps, mark]}


def from_wire(transactions: Sequence[Transaction], answer: Mapping[str, Any]) -> list[Outcome]:
    """Return the outcome of each out of the answer to ``to_wire``.

    Raises:
        EtcdError: the answer is none to such a request.
    """
    with _understood():
        if len(transactions) == 1:
            return [_outcome_of_whole(transactions[0], answer, moment_of(answer))]
        return _outcomes(transactions, answer, answer["responses"])


def from_guarded(transactions: Sequence[Transaction], answer: Mapping[str, Any]) -> list[Outcome]:
    """Return the outcome of each out of the answer to ``guarded``, whose condition held."""
    with _understood():
        return _outcomes(transactions, answer, answer["responses"][:-1])


def moment_of(answer: Mapping[str, Any]) -> Moment:
    """Return the moment of an answer.

    Raises:
        EtcdError: it is no answer of etcd.
    """
    with _understood():
        header = answer["header"]
        return Moment(int(header["cluster_id"]), int(header["revision"]))


def entry_of(raw: Mapping[str, Any], start: int) -> Entry:
    """Read one key of the gateway's JSON, which leaves zero and empty out.

    Args:
        raw: the JSON object.
        start: how many characters of the key are not the embedder's.
    """
    revision, created = raw["mod_revision"], raw["create_revision"]
    number = int(revision)
    return Entry(
        a2b_base64(raw["key"]).decode("ascii")[start:],
        a2b_base64(raw.get("value", "")),
        number,
        # Most keys were written once: then both are one object, and memory is saved.
        number if created == revision else int(created),
        int(raw.get("lease", 0)),
    )


@contextmanager
def _understood() -> Iterator[None]:
    try:
        yield
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise EtcdError("etcd: an answer came without what was asked for") from error


def _outcomes(
    transactions: Sequence[Transaction],
    answer: Mapping[str, Any],
    responses: Sequence[Mapping[str, Any]],
) -> list[Outcome]:
    at = moment_of(answer)
    pairs = paired(transactions, responses)
    return [_outcome(transaction, raw, at) for transaction, raw in pairs]


def _step(transaction: Transaction) -> Body:
    if transaction.is_plain:
        return _operation(transaction.then[0], transaction.space)
    return {"request_txn": _whole(transaction)}


def _whole(transaction: Transaction) -> Body:
    space = transaction.space
    return {
        "compare": [_compare(condition, space) for condition in transaction.when],
        "success": [_operation(operation, space) for operation in transaction.then],
        "failure": [_operation(operation, space) for operation in transaction.otherwise],
    }


def _compare(condition: Condition, space: str) -> Body:
    key = (condition.space or space) + condition.key
    return comparison(key, condition.aspect.value, condition.wanted, condition.differs)


def _operation(operation: Operation, space: str) -> Body:
    if isinstance(operation, Put):
        return put_request(space + operation.key, operation.value, operation.lease)
    if isinstance(operation, Delete):
        return delete_request(space + operation.key)
    if isinstance(operation, DeletePrefix):
        begin = space + operation.prefix
        return delete_request(begin, prefix_end(begin))
    return range_request(space + operation.key)


def _outcome(transaction: Transaction, raw: Mapping[str, Any], at: Moment) -> Outcome:
    if transaction.is_plain:
        result = _result(transaction.then[0], raw, len(transaction.space))
        return Outcome(True, at.revision, (result,), at.cluster)
    return _outcome_of_whole(transaction, raw["response_txn"], at)


def _outcome_of_whole(transaction: Transaction, raw: Mapping[str, Any], at: Moment) -> Outcome:
    if not raw.keys() <= _OF_A_TRANSACTION:
        raise ValueError("that answers another question")
    succeeded = bool(raw.get("succeeded", False))
    if not succeeded and not transaction.when:
        raise ValueError("what has no condition cannot fail")
    operations = transaction.then if succeeded else transaction.otherwise
    answers = raw.get("responses", ())
    start = len(transaction.space)
    pairs = paired(operations, answers)
    results = tuple(_result(operation, answer, start) for operation, answer in pairs)
    return Outcome(succeeded, at.revision, results, at.cluster)


def _result(operation: Operation, raw: Mapping[str, Any], start: int) -> Result:
    if isinstance(operation, Put):
        return None
    if isinstance(operation, Read):
        found = raw["response_range"].get("kvs", ())
        return entry_of(found[0], start) if found else None
    return int(raw["response_delete_range"].get("deleted", 0))
