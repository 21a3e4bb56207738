"""What one life of a server does with records that it hears of."""

from __future__ import annotations

import threading
from types import SimpleNamespace
from typing import Any, cast

import pytest

from collective.daemon.node import Node
from collective.model.records import Revocation, to_json
from collective.model.view import Item, View, revoked_key


@pytest.mark.parametrize("holds_ca_key", [True, False])
def test_deleted_server_is_refused_before_it_is_cut_off(holds_ca_key: bool) -> None:
    """Also where there is no list to write: who comes between the two is let in nowhere.

    The records that the door looks at are newer only when all listeners have seen them.
    """
    written: list[frozenset[str]] = []
    credentials = SimpleNamespace(
        revoked=frozenset(),
        holds_ca_key=holds_ca_key,
        revoke=lambda serials, now: written.append(serials),
    )
    node: Any = SimpleNamespace(
        _cut=frozenset(),
        _revoking=threading.RLock(),
        _listed=None,
        _revoked=None,
        credentials=credentials,
    )
    record = Revocation("ab", "mgt3", 1.0)
    view = View(7, {revoked_key("ab"): Item(to_json(record).encode(), 7)})
    cast(Any, Node)._revoke(node, view)
    assert credentials.revoked == {"ab"}
    assert written == ([frozenset({"ab"})] if holds_ca_key else [])
