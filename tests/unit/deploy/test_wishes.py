"""What a wish about a member needs: nothing where it is fulfilled already."""

from __future__ import annotations

from typing import Any

import pytest

from deploy.plugins.module_utils import host
from deploy.plugins.module_utils import members as wishes


def shown(name: str = "mgt1", mode: str = "member", **roles: str) -> dict[str, Any]:
    """Return what 'show' told on a server."""
    members = [{"name": other, "role": role} for other, role in roles.items()]
    return {"name": name, "mode": mode, "members": members}


PAIR = {"mgt1": "voter", "mgt2": "voter"}


@pytest.mark.parametrize(
    ("document", "sponsor", "voting", "need"),
    [
        (shown("mgt2", mgt2="voter"), "mgt1", None, wishes.JOIN),
        (shown("mgt2", "removed"), "mgt1", None, wishes.JOIN),
        (shown("mgt2", "joining"), "mgt1", None, wishes.FINISH),
        (shown("mgt2", **PAIR), "mgt1", None, wishes.NOTHING),
        (shown("mgt2", **PAIR), "mgt1", True, wishes.NOTHING),
        (shown("mgt2", **PAIR), "mgt1", False, wishes.DEMOTE),
        (shown("mgt2", "nonvoting", mgt1="voter", mgt2="nonvoting"), "mgt1", True, wishes.PROMOTE),
        (shown("mgt1", mgt1="voter"), "mgt1", True, wishes.NOTHING),
        (shown("mgt2", mgt1="voter", mgt2="learner"), "mgt1", True, wishes.NOTHING),
    ],
)
def test_server_does_what_is_missing(
    document: dict[str, Any], sponsor: str, voting: bool | None, need: str
) -> None:
    """And nothing else."""
    assert wishes.needs_here(document, sponsor, voting) == need


def test_server_of_another_collective_is_not_taken_out_of_it() -> None:
    """That is for a person to decide."""
    with pytest.raises(wishes.WishError, match="in a collective with mgt9 already"):
        wishes.needs_here(shown("mgt2", mgt2="voter", mgt9="voter"), "mgt1", None)


@pytest.mark.parametrize(
    ("name", "state", "voting", "need"),
    [
        ("mgt2", "absent", None, wishes.DELETE),
        ("mgt3", "absent", None, wishes.NOTHING),
        ("mgt3", "invited", None, wishes.INVITE),
        ("mgt2", "invited", None, wishes.NOTHING),
        ("mgt2", "present", False, wishes.DEMOTE),
        ("mgt2", "present", None, wishes.NOTHING),
    ],
)
def test_member_does_what_is_missing_about_another(
    name: str, state: str, voting: bool | None, need: str
) -> None:
    """From what it shows."""
    assert wishes.needs_there(shown(**PAIR), name, state, voting) == need


def test_server_that_is_no_member_must_join_itself() -> None:
    """Nobody else can make it one."""
    with pytest.raises(wishes.WishError, match="run this on mgt3"):
        wishes.needs_there(shown(**PAIR), "mgt3", "present", None)


def test_diff_shows_the_members() -> None:
    """Before and after."""
    before = shown(**PAIR)
    assert wishes.listing(wishes.with_member(before, "mgt2", None)) == "mgt1 (voter)\n"
    assert wishes.listing(shown()) == "no collective\n"


def test_fingerprint_is_that_of_the_member() -> None:
    """Or none, where it is not known yet."""
    told = {"members": [{"name": "mgt1", "certificate_fingerprint": "3b1f"}, {"name": "mgt2"}]}
    assert wishes.fingerprint_of(told, "mgt1") == "3b1f"
    assert wishes.fingerprint_of(told, "mgt2") is None
    assert wishes.fingerprint_of(told, "mgt9") is None


def test_ports_are_read_from_the_kernel() -> None:
    """Those that are listened on, and no others."""
    table = (
        "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt uid ...\n"
        "   0: 0100007F:32CA 00000000:0000 0A 00000000:00000000 00:00000000 00000000 0 0 4711 1\n"
        "   1: 0100007F:1F90 0100007F:32CA 01 00000000:00000000 00:00000000 00000000 0 0 4712 1\n"
    )
    assert host.listening([table]) == {13002: "4711"}


def test_what_was_changed_after_the_start_is_stale() -> None:
    """A daemon that does not run reads everything when it is started."""
    times = [("old", 1.0), ("new", 9.0), ("gone", None)]
    assert host.changed_since(5.0, times, 99.0) == ["new"]
    assert host.changed_since(None, times, 99.0) == []


def test_version_of_etcd_is_read_from_what_the_daemon_checks() -> None:
    """Nothing where the settings are wrong, or there is no etcd."""
    good = "/etc/c.conf: the settings are valid\n/usr/bin/etcd: etcd 3.5.16, which would run\n"
    assert host.etcd_version(good) == "3.5.16"
    assert host.etcd_version("/etc/c.conf: the settings are valid\n") == ""


def test_ufw_is_on_where_its_settings_say_so() -> None:
    """Not where the line is a comment."""
    assert host.is_ufw_on("# ufw\nENABLED=yes\nLOGLEVEL=low\n")
    assert not host.is_ufw_on("# ENABLED=yes\nENABLED=no\n")
