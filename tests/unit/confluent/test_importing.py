"""What hinders an import, and what is only warned of."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from collective.errors import RefusedError
from confluent_collective.importing import documents_of, findings, read_configuration


def configuration(**areas: Any) -> Any:
    tenants = areas.pop("tenant", {})
    return SimpleNamespace(_cfgstore={"main": areas, "tenant": tenants, "globals": {}})


def test_names_that_differ_in_case_only_and_tenants_hinder() -> None:
    """All of it is told together."""
    errors, _ = findings(configuration(nodes={"n1": {}, "N1": {}}, tenant={"x": {}}))
    assert errors == [
        "it has tenants (x), which are not shared",
        "nodes: n1 and N1 differ in upper and lower case only",
    ]


def test_candidates_that_are_no_nodes_are_warned_of() -> None:
    """Confluent's failover raises with them."""
    node = {"collective.managercandidates": {"value": "mgt1,n1"}}
    errors, warnings = findings(configuration(nodes={"n1": node}))
    assert errors == []
    assert warnings[0].startswith("n1: its collective.managercandidates mgt1 are no nodes")


def test_master_keys_and_a_servers_own_globals_are_not_shared() -> None:
    """They are on no other server, and not in the store."""
    cfm = configuration(nodes={"n1": {"groups": []}})
    cfm._cfgstore["globals"] = {
        "master_privacy_key": {"unencryptedvalue": b"secret"},
        "logdirectory": "/var/log",
        "max_node_index": 2,
    }
    found = dict(documents_of(cfm))
    assert sorted(found) == ["confluent/v1/globals/max_node_index", "confluent/v1/nodes/n1"]
    assert b"secret" not in b"".join(found.values())


def test_folder_without_a_configuration_is_refused(tmp_path: Path) -> None:
    """With what to name."""
    with pytest.raises(RefusedError, match="holds neither") as caught:
        read_configuration(SimpleNamespace(), tmp_path)
    assert "confluentdbutil dump" in str(caught.value.hint)
