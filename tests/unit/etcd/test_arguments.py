"""The command line of etcd."""

from __future__ import annotations

from dataclasses import replace

import pytest

from collective.etcd.arguments import CLIENT_SOCKET, Files, Timing, etcd_arguments
from collective.model.layout import Layout
from collective.model.plan import Mode, Plan

PLAN = Plan(
    mode=Mode.MEMBER,
    name="mgt1",
    address="10.0.0.1",
    door_port=13002,
    peer_port=13003,
    cluster_token="abcd",
    initial_cluster="mgt1=https://10.0.0.1:13003",
    existing=False,
)
FILES = Files("/d/etcd", "/d/pki/server.pem", "/d/pki/trusted.pem", "/d/pki/crl.der")


def options(plan: Plan = PLAN, listen: tuple[str, ...] = ("10.0.0.1",)) -> dict[str, str]:
    words = etcd_arguments(plan, FILES, Timing(50, 500), listen)
    assert all(word.startswith("--") and "=" in word for word in words)
    pairs = [word[2:].split("=", 1) for word in words]
    assert len(pairs) == len(dict(pairs))
    return dict(pairs)


def test_client_door_is_one_socket_file_and_nothing_else() -> None:
    """No option opens the client API, metrics or profiles to the network."""
    found = options()
    assert found["listen-client-urls"] == f"unix://{CLIENT_SOCKET}"
    for name in ("listen-client-http-urls", "listen-metrics-urls", "enable-pprof"):
        assert name not in found


def test_socket_has_the_name_that_the_layout_expects() -> None:
    """Two modules name this file; they must agree."""
    layout = Layout.from_environment({})
    assert layout.etcd_socket == f"{layout.etcd_run}/{CLIENT_SOCKET}"


def test_peer_door_wants_a_certificate_that_is_not_revoked() -> None:
    """Our trust file, our revocation list, on both sides; nothing is made up by etcd itself."""
    found = options()
    assert found["peer-client-cert-auth"] == "true"
    assert found["peer-trusted-ca-file"] == FILES.trusted
    assert found["peer-crl-file"] == FILES.crl
    assert (found["peer-cert-file"], found["peer-key-file"]) == (FILES.leaf, FILES.leaf)
    assert "peer-auto-tls" not in found
    assert found["initial-advertise-peer-urls"] == "https://10.0.0.1:13003"


def test_peer_door_takes_no_cipher_with_cbc() -> None:
    """What is encrypted is authenticated as one, with a new key for each connection."""
    suites = options()["cipher-suites"].split(",")
    assert suites
    for suite in suites:
        assert suite.startswith("TLS_ECDHE_ECDSA_WITH_")
        assert "_CBC_" not in suite
        assert "_GCM_" in suite or "CHACHA20_POLY1305" in suite
    # Without this one Go's HTTP/2 does not start.
    assert "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256" in suites


@pytest.mark.parametrize(("existing", "state"), [(False, "new"), (True, "existing")])
def test_cluster_is_that_of_the_plan(existing: bool, state: str) -> None:
    """Name, token and first members come from the plan alone."""
    found = options(replace(PLAN, existing=existing))
    assert found["initial-cluster-state"] == state
    assert found["initial-cluster"] == PLAN.initial_cluster
    assert found["initial-cluster-token"] == "abcd"
    assert (found["name"], found["data-dir"]) == ("mgt1", "/d/etcd")
    assert (found["heartbeat-interval"], found["election-timeout"]) == ("50", "500")


@pytest.mark.parametrize(
    ("listen", "urls"),
    [
        (("10.0.0.1",), "https://10.0.0.1:13003"),
        (("0.0.0.0",), "https://0.0.0.0:13003"),
        (("10.0.0.1", "fd00::1"), "https://10.0.0.1:13003,https://[fd00::1]:13003"),
        (("::",), "https://[::]:13003"),
    ],
)
def test_peer_door_listens_where_it_is_told(listen: tuple[str, ...], urls: str) -> None:
    """Each address gets the peer port; what is advertised stays one address."""
    found = options(listen=listen)
    assert found["listen-peer-urls"] == urls
    assert found["initial-advertise-peer-urls"] == "https://10.0.0.1:13003"


@pytest.mark.peers(15)
def test_ipv6_address_is_advertised_in_brackets() -> None:
    """A URL is one also for IPv6."""
    assert options(replace(PLAN, address="fd00::1"))["initial-advertise-peer-urls"] == (
        "https://[fd00::1]:13003"
    )


def test_elections_are_not_disturbed_by_who_comes_back() -> None:
    """Pre-vote is off by default on 3.4."""
    assert options()["pre-vote"] == "true"
