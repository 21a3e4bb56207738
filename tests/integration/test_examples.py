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
from tests.harness.server import CHECKOUT

pytestmark = pytest.mark.integration


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
    page = CHECKOUT / "docs" / "embedding.md"
    names: dict[str, object] = {"__name__": "embedding"}
    printed = StringIO()
    with redirect_stdout(printed):
        for block in blocks(page):
            exec(compile(block, page.name, "exec"), names)  # our own page
    assert printed.getvalue().startswith("mgt1\nmgt1\nTrue\nmgt1 127.0.0.1 True")
    assert "we manage" in printed.getvalue()


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
