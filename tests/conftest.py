"""Fixtures and hooks for all tests: every etcd there is, clusters, and logs where one fails.

    def test_x(cluster):            # a Cluster without servers, once for each version of etcd
    def test_y(make_cluster):       # make_cluster(3): a Cluster of three joined servers

A test that uses ``etcd``, ``cluster`` or ``make_cluster`` runs once for each version; a slow one,
unless COLLECTIVE_FULL is set, with one of them (``harness/short_run.py``).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from collective.failpoints import Step
from tests.harness import Cluster, matrix, temporary_folder
from tests.harness.grown import Grown
from tests.harness.network import Network, NoNetworkError
from tests.harness.shares import make_scheduler
from tests.harness.short_run import is_full, is_left_out
from tools.etcd_versions import Etcd, etcds_in_use

# How long an example takes says how busy the machine is, and nothing of the code.
settings.register_profile("shared", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("shared")

# Hosts are booted for "make test-deploy" alone.
collect_ignore = [] if os.environ.get("COLLECTIVE_HOSTS") else ["deploy"]

_CLUSTERS = pytest.StashKey[list[Cluster]]()
_LONGEST_LOG = 20_000
#: Joined servers of which many tests want so many.
_KEPT = (2, 3)


@pytest.fixture(params=etcds_in_use(), ids=lambda etcd: f"etcd-{etcd.version_text}")
def etcd(request: pytest.FixtureRequest) -> Etcd:
    """An etcd; all that are here, one after the other."""
    found: Etcd = request.param
    return found


@pytest.fixture
def show_logs_of(request: pytest.FixtureRequest) -> Callable[[Cluster], None]:
    """Has the logs of a cluster shown if this test fails."""
    clusters: list[Cluster] = request.node.stash.setdefault(_CLUSTERS, [])
    return clusters.append


@pytest.fixture
def new_cluster(
    etcd: Etcd, show_logs_of: Callable[[Cluster], None]
) -> Iterator[Callable[..., Cluster]]:
    """Makes a Cluster without servers, with settings for all of them."""
    with ExitStack() as stack:

        def make(ports: tuple[int, int] | None = None, **settings: str) -> Cluster:
            folder = stack.enter_context(temporary_folder())
            cluster = stack.enter_context(
                Cluster(folder, etcd.etcd, settings=settings, preferred_ports=ports)
            )
            show_logs_of(cluster)
            return cluster

        yield make


@pytest.fixture
def cluster(new_cluster: Callable[..., Cluster]) -> Cluster:
    """A Cluster without servers."""
    return new_cluster()


@pytest.fixture(scope="session")
def grown() -> Iterator[Grown]:
    """Keeps the files of joined servers from one test to the next."""
    with temporary_folder() as folder:
        yield Grown(folder)


@pytest.fixture
def make_cluster(
    new_cluster: Callable[..., Cluster], etcd: Etcd, grown: Grown
) -> Callable[..., Cluster]:
    """Makes a Cluster of so many joined servers, with settings for all of them."""

    def make(count: int, **settings: str) -> Cluster:
        if count in _KEPT and not settings:
            return grown.cluster(new_cluster, etcd.version_text, count)
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


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what a short run leaves out; cells at steps have a rule of their own."""
    if is_full():
        return
    versions = [etcd.version_text for etcd in etcds_in_use()]
    left_out = {i for i in items if not _is_at_step(i) and is_left_out(i.nodeid, versions)}
    config.hook.pytest_deselected(items=list(left_out))
    items[:] = [item for item in items if item not in left_out]


def _is_at_step(item: pytest.Item) -> bool:
    values: dict[str, Any] = getattr(getattr(item, "callspec", None), "params", {})
    return isinstance(values.get("step"), Step)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Share the tests between the processes."""
    return make_scheduler(config, log)


class _Failures:
    """Names each test that fails at once: a run is long, and its summary comes at the end."""

    def __init__(self, config: pytest.Config) -> None:
        self._config = config

    @pytest.hookimpl(trylast=True)
    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        terminal = self._config.pluginmanager.get_plugin("terminalreporter")
        if report.failed and terminal is not None:
            terminal.write_line("")
            terminal.write_line(f"failed: {report.nodeid}")


def pytest_configure(config: pytest.Config) -> None:
    """Have failures named, by the process that reports."""
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(_Failures(config))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table of cuts, if any cell of it was played; keep it where a variable says."""
    told = [
        matrix.Told(name, facts, report.passed, report.duration)
        for outcome in ("passed", "failed")
        for report in terminalreporter.getreports(outcome)
        if report.when == "call"
        for name, facts in report.user_properties
        if name in (matrix.CELL, matrix.PLAIN) and isinstance(facts, dict)
    ]
    lines = matrix.tables(told)
    if not lines:
        return
    terminalreporter.section("cut after each step")
    terminalreporter.write("\n".join(lines))
    place = os.environ.get(matrix.VARIABLE)
    if place:
        Path(place).write_text("\n".join(lines))
