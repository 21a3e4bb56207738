"""In the place of Confluent's own collective, which is none here."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

from confluent import log, util

__all__ = ["log", "util"]
failovercheck: Any = None
SENT: list[Any] = []


async def _send(_connection: Any, what: Any) -> None:
    SENT.append(what)


tlvdata = SimpleNamespace(send=_send)


def get_myname() -> str:
    """Return the name of this server."""
    raise NotImplementedError


def startup() -> None:
    """Begin Confluent's own collective."""
    raise AssertionError("Confluent's own collective was begun")


async def check_managers() -> None:
    """Give the nodes of those who are gone to others."""


def schedule_rebalance() -> None:
    """Have the managers checked after a while."""


def populate_collinfo(told: dict[str, Any]) -> None:
    """Say who is there."""
    raise AssertionError("Confluent's own collective was asked")


async def handle_connection(connection: Any, cert: Any, request: Any, local: bool = False) -> None:
    """Answer a command, or another member."""
    raise AssertionError("Confluent's own collective was asked")
