"""Instances of the stand-in's configuration, in this process."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.harness.server import CHECKOUT

STANDIN = CHECKOUT / "tests" / "confluent" / "standin"


@pytest.fixture
def new_configuration(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], Any]]:
    """Makes an instance of the stand-in's module, with an empty configuration and no files."""
    monkeypatch.syspath_prepend(str(STANDIN))
    file = STANDIN / "confluent" / "config" / "configmanager.py"

    def make() -> Any:
        spec = importlib.util.spec_from_file_location(f"standin_{file.stem}", file)
        assert spec is not None
        assert spec.loader is not None
        module: Any = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        module.statelessmode = True
        module.init(True)
        module.ConfigManager(None)
        module.init_masterkey()
        return module

    yield make
    for name in [n for n in sys.modules if n.partition(".")[0] == "confluent"]:
        del sys.modules[name]
