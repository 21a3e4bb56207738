"""What tests on real daemons share."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

import collective
from tests.harness import Server

_SECONDS = 20.0


@pytest.fixture
def connect() -> Iterator[Callable[[Server], collective.Collective]]:
    """Makes handles, and closes them in the end."""
    with ExitStack() as stack:
        yield lambda server: stack.enter_context(collective.connect(server.root, seconds=_SECONDS))
