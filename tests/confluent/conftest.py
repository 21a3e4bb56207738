"""Confluents on a collective: the stand-in, and each real one that the environment names."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.harness import Cluster, Server, wait_until
from tests.harness.confluents import Confluent, stop_all
from tests.harness.interpreters import interpreter

#: ``NAME=INTERPRETER,LIBRARY[,PROGRAMS]`` for each, with semicolons between. The library holds
#: the package confluent, PROGRAMS its programs (nodedefine, vtbufferd): for a whole Confluent.
VARIABLE = "COLLECTIVE_CONFLUENTS"


@dataclass(frozen=True)
class Kind:
    """A Confluent that can be run here.

    Attributes:
        name: for the tests' names.
        python: its interpreter.
        library: the folder that holds its package.
        real: whether it is Confluent, and no stand-in.
        programs: the folder of its programs; None where it was not named.
    """

    name: str
    python: str
    library: Path
    real: bool
    programs: Path | None = None


def kinds() -> list[Kind]:
    """Return what there is here."""
    standins = Path(__file__).parent / "standin"
    oldest = interpreter("3.9") or sys.executable
    found = [Kind("standin", oldest, standins, False)]
    for each in filter(None, os.environ.get(VARIABLE, "").split(";")):
        name, _, where = each.partition("=")
        python, library, *programs = where.split(",")
        folder = Path(programs[0]) if programs else None
        found.append(Kind(name, python, Path(library), True, folder))
    return found


@pytest.fixture(params=kinds(), ids=lambda kind: kind.name)
def kind(request: pytest.FixtureRequest) -> Kind:
    """One kind of Confluent after the other."""
    found: Kind = request.param
    return found


@pytest.fixture
def confluent_of(
    kind: Kind, tmp_path: Path
) -> Iterator[Callable[[str, Server | None], Confluent]]:
    """Makes a Confluent, beside a server or alone, and ends it."""
    made: list[Confluent] = []

    def make(name: str, server: Server | None) -> Confluent:
        root = "-" if server is None else str(server.root)
        made.append(Confluent(kind.python, kind.library, name, tmp_path / f"cf-{name}", root))
        return made[-1]

    yield make
    stop_all(made)


@pytest.fixture
def three(
    cluster: Cluster, confluent_of: Callable[[str, Server | None], Confluent]
) -> list[Confluent]:
    """Three servers, each with a Confluent that has taken up what the first one had."""
    servers = cluster.grow(3)
    made = [confluent_of(server.name, server) for server in servers]
    first = confluent_of(servers[0].name, None)
    first.start()
    first.mutate("add_group_attributes", {"rack": {"location.room": "old"}})
    first.mutate("add_node_attributes", {"n1": {"groups": ["rack"]}})
    first.ask("sync")
    first.stop()
    made[0].import_folder()
    for each in made:
        each.start()
    for each in made:
        wait_until(lambda e=each: e.ask("quorum"), 30.0, "it knows of the quorum")  # type: ignore[misc]
    return made
