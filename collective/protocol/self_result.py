"""What the daemon tells software beside it about this server; embedders read it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collective.protocol.messages import Message


@dataclass(frozen=True)
class SelfResult(Message):
    """Who this server is, as software beside it is told.

    Attributes:
        name: of it.
        mode: what it is, see ``model.plan``.
        idle: the error that says why it rests, None where it does not.
    """

    name: str
    mode: str
    idle: Mapping[str, Any] | None = None
