"""Network namespaces for a partition: those of the tests, or a reason why there are none."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from bench.place import SkippedError
from tests.harness.network import Network, NoNetworkError


@contextmanager
def network(count: int) -> Iterator[Network]:
    """Make a network of so many hosts.

    Raises:
        SkippedError: it could not be made here.
    """
    try:
        made = Network.of(count).__enter__()
    except NoNetworkError as error:
        raise SkippedError(f"a partition cannot be made: {error}") from error
    try:
        yield made
    finally:
        made.__exit__(None, None, None)
