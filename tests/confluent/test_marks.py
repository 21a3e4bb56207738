"""Work that was done without the collective is kept, though the mark was forgotten."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest

from tests.harness import Server, wait_until
from tests.harness.confluents import Confluent

pytestmark = pytest.mark.integration

SECONDS = 30.0


def test_work_that_was_done_alone_is_copied_and_what_the_adapter_wrote_is_not(
    three: list[Confluent], confluent_of: Callable[[str, Server | None], Confluent]
) -> None:
    """A server goes out, its mark stays, and it goes in again."""
    mgt1, _, mgt3 = three
    mgt3.mutate("add_node_attributes", {"n2": {"groups": ["rack"]}})
    mgt3.ask("sync")
    mgt3.stop()
    before = set(mgt3.cfg.parent.glob("cfg.aside-*"))
    mgt1.mutate("add_node_attributes", {"n3": {"groups": ["rack"]}})
    mgt3.start()
    wait_until(partial(mgt3.ask, "quorum"), SECONDS, "it knows of the quorum")
    assert mgt3.ask("nodes") == 3
    mgt3.ask("sync")
    mgt3.stop()
    assert set(mgt3.cfg.parent.glob("cfg.aside-*")) == before
    alone = confluent_of("mgt3", None)
    alone.start()
    alone.mutate("add_node_attributes", {"n9": {"groups": ["rack"]}})
    alone.ask("sync")
    alone.stop()
    mgt3.start()
    wait_until(partial(mgt3.ask, "quorum"), SECONDS, "it knows of the quorum")
    assert mgt3.ask("dump") == mgt1.ask("dump")
    (aside,) = set(mgt3.cfg.parent.glob("cfg.aside-*")) - before
    copy = confluent_of("copy", None)
    copy.cfg.parent.mkdir()
    aside.rename(copy.cfg)
    copy.start()
    assert set(copy.dump()["nodes"]) == {"n1", "n2", "n3", "n9"}
