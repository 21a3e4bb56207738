"""Fixtures and hooks for all tests: every etcd there is, clusters, and logs where one fails.

    def test_x(cluster):            # a Cluster without servers, once for each version of etcd
    def test_y(make_cluster):       # make_cluster(3): a Cluster of three joined servers

A test that uses ``etcd``, ``cluster`` or ``make_cluster`` runs once for each version.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack

import pytest
from hypothesis import HealthCheck, settings

from tests.harness import Cluster, temporary_folder
from tests.harness.network import Network, NoNetworkError
from tools.etcd_versions import Etcd, find_etcds

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

_CLUSTERS = pytest.StashKey[list[Cluster]]()
_LONGEST_LOG = 20_000


@pytest.fixture(params=find_etcds(), ids=lambda etcd: f"etcd-{etcd.version_text}")
def etcd(request: pytest.FixtureRequest) -> Etcd:
    """An etcd; all that are here, one after the other."""
    found: Etcd = request.param
    return found


@pytest.fixture
def new_cluster(request: pytest.FixtureRequest, etcd: Etcd) -> Iterator[Callable[..., Cluster]]:
    """Makes a Cluster without servers, with settings for all of them."""
    clusters = request.node.stash.setdefault(_CLUSTERS, [])
    with ExitStack() as stack:

        def make(**settings: str) -> Cluster:
            folder = stack.enter_context(temporary_folder())
            cluster = stack.enter_context(Cluster(folder, etcd.etcd, settings=settings))
            clusters.append(cluster)
            return cluster

        yield make


@pytest.fixture
def cluster(new_cluster: Callable[..., Cluster]) -> Cluster:
    """A Cluster without servers."""
    return new_cluster()


@pytest.fixture
def make_cluster(new_cluster: Callable[..., Cluster]) -> Callable[..., Cluster]:
    """Makes a Cluster of so many joined servers, with settings for all of them."""

    def make(count: int, **settings: str) -> Cluster:
        made = new_cluster(**settings)
        made.grow(count)
        return made

    return make


@pytest.fixture
def make_network() -> Iterator[Callable[..., Network]]:
    """Makes a Network from hosts and their addresses; skips where there can be none."""
    with ExitStack() as stack:

        def make(**hosts: Sequence[str]) -> Network:
            try:
                return stack.enter_context(Network(hosts))
            except NoNetworkError as error:
                pytest.skip(f"no networks: {error}")

        yield make


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Put the logs of all servers into the report of a test that failed."""
    report = yield
    if report.failed:
        for cluster in item.stash.get(_CLUSTERS, []):
            for name, log in cluster.logs().items():
                if log:
                    report.sections.append((f"log of {name}", log[-_LONGEST_LOG:]))
    return report
