"""The beginning of a life, which other threads may end."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.member.worker import Worker
from collective.daemon.settings import load_settings
from collective.model.layout import Layout
from tests.harness.ports import claim_ports
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration


def test_life_is_ended_by_nobody_while_it_begins(tmp_path: Path, etcd: Etcd) -> None:
    """A check of its data may find that it is lost before the last of its parts has begun."""
    ports = claim_ports(["127.0.0.1"])
    settings = tmp_path / "conf"
    settings.write_text(
        f"name = mgt1\naddress = 127.0.0.1\netcd = {etcd.etcd}\n"
        f"port = {ports.door}\npeer_port = {ports.peer}\n"
    )
    found: list[bool] = []

    def workers_of(*_: object) -> Sequence[Worker]:
        """Try to get in, from another thread, in the middle of the beginning."""

        def get_in() -> None:
            got = server.life.acquire(timeout=0.2)
            found.append(got)
            if got:
                server.life.release()

        thread = threading.Thread(target=get_in)
        thread.start()
        thread.join()
        return ()

    layout = Layout.from_environment({"COLLECTIVE_ROOT": str(tmp_path)})
    server = CollectiveServer(load_settings(settings, True, None), layout, workers_of)
    try:
        server.doors.start()
        server.start()
    finally:
        server.stop()
        ports.release()
    assert found == [False]
