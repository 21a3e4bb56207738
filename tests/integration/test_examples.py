"""What the documents and examples show is run as it stands there."""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path

import pytest

from collective.model.layout import ROOT_VARIABLE
from tests.harness import Cluster
from tests.harness.interpreters import VERSIONS, interpreter
from tests.harness.server import CHECKOUT

pytestmark = pytest.mark.integration

PAGE = CHECKOUT / "docs" / "embedding.md"


def blocks(page: Path) -> Iterator[str]:
    """Yield the Python blocks of a page, each at its own line, for the traceback."""
    text = page.read_text()
    for found in re.finditer(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE):
        yield "\n" * text.count("\n", 0, found.start(1)) + found[1]


def test_blocks_of_the_embedding_page_run(
    cluster: Cluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From top to bottom, beside one daemon."""
    (mgt1,) = cluster.add_running(1)
    monkeypatch.setenv(ROOT_VARIABLE, str(mgt1.root))
    names: dict[str, object] = {"__name__": "embedding"}
    printed = StringIO()
    with redirect_stdout(printed):
        for block in blocks(PAGE):
            exec(compile(block, PAGE.name, "exec"), names)  # our own page
    assert printed.getvalue().startswith("mgt1\nmgt1\nTrue\nmgt1 127.0.0.1 True")
    assert "we manage" in printed.getvalue()


@pytest.mark.parametrize("version", VERSIONS)
def test_blocks_of_the_embedding_page_run_in_an_embedders_python(
    cluster: Cluster, version: str
) -> None:
    """Without any package of ours or anybody's; Python 3.9 lacks ``anext``, and has the method."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    (mgt1,) = cluster.add_running(1)
    code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r})\n" + "".join(blocks(PAGE))
    if version == "3.9":
        code = code.replace("anext(watch)", "watch.__anext__()")
    done = subprocess.run(
        [python, "-I", "-S", "-c", code],
        env={ROOT_VARIABLE: str(mgt1.root)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "we manage" in done.stdout


@pytest.mark.slow
def test_three_node_servers_survive_each_others_death() -> None:
    """``make example``, as it is."""
    done = subprocess.run(
        [sys.executable, "-m", "examples.three"],
        cwd=CHECKOUT,
        capture_output=True,
        text=True,
        timeout=240,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.count("all nodes are looked after again") == 3
