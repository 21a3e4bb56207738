"""Servers that cannot be reached, or are not who they should be; and what the environment says.

Every failure is told within the deadline of the dial, with host and port. Nothing but a stranger's
question is sent to a server that was not found on the token's guest list.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from collective.errors import CollectiveError, InvitationError, ProtocolError, UnreachableError
from tests.harness import Cluster, Server, temporary_folder
from tests.harness.doors import Authority
from tests.harness.trouble import (
    answers_http,
    answers_tls,
    assert_refused,
    assert_stranger_asked,
    challenge_of,
    facts,
    hangs_up,
    one_etcd,
    records_tls,
    relays_first,
    serving,
    settle,
    silent_server,
)
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

# A dial has 5 s; the rest is for a process to start on a machine that is busy.
DIAL_SECONDS = 9.0


@pytest.fixture
def etcd() -> Etcd:
    """One version is enough: etcd takes no part in what goes wrong here."""
    return one_etcd()


@dataclass
class Scene:
    """mgt1 has invited mgt2, which tries to join where it cannot.

    Attributes:
        token: mgt1's for mgt2.
        authority: a CA of somebody else, in whose folder there is room.
    """

    mgt1: Server
    mgt2: Server
    token: str = field(repr=False)
    authority: Authority
    folder: Path

    def __post_init__(self) -> None:
        self._before = facts(self.mgt1), facts(self.mgt2)

    def join(self, where: str, error: type[CollectiveError], *words: str) -> None:
        """Try to join there, and see that it is refused and has changed nothing."""
        result = self.mgt2.run("join", where, input=self.token, timeout=2 * DIAL_SECONDS)
        assert_refused(result, error, *words)
        assert result.seconds < DIAL_SECONDS
        assert (facts(self.mgt1), facts(self.mgt2)) == self._before


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with temporary_folder() as folder, Cluster(folder, one_etcd().etcd) as cluster:
        mgt1, mgt2 = cluster.add_running(2)
        settle(mgt1)
        settle(mgt2)
        token = mgt1.run("invite", "mgt2", check=True).out
        others = folder / "others"
        others.mkdir()
        yield Scene(mgt1, mgt2, token, Authority(others), others)
        joined = mgt2.run("join", mgt1.door_name, input=token, check=True)
        assert joined.out == "Success\n"
        cluster.wait_until_all_active(mgt1, [mgt1, mgt2])


@pytest.fixture(autouse=True)
def logs(request: pytest.FixtureRequest) -> Iterator[None]:
    """Show what the shared servers logged, where a test failed."""
    yield
    if "scene" in request.fixturenames:
        scene: Scene = request.getfixturevalue("scene")
        for server in (scene.mgt1, scene.mgt2):
            print(f"log of {server.name}:\n{server.log_text}")


def test_name_that_does_not_resolve_is_named(scene: Scene) -> None:
    """A mistyped name ends at once, with the name."""
    scene.join("no-such-server.invalid", UnreachableError, "no-such-server.invalid", "resolve")


def test_name_that_is_too_long_for_dns_is_refused(scene: Scene) -> None:
    """What the resolver chokes on is an error like any other."""
    scene.join("x" * 300 + ":13002", UnreachableError, "resolve")
    scene.join("a..b:13002", UnreachableError, "a..b")


def test_closed_port_is_named(scene: Scene) -> None:
    """Nobody listens there: host, port, and that the connection was refused."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    scene.join(f"127.0.0.1:{port}", UnreachableError, f"127.0.0.1:{port}", "connection refused")


def test_closed_port_of_a_name_is_named_with_it(scene: Scene) -> None:
    """The error has the name as typed as well as the address that it led to."""
    port = scene.mgt1.port - 1
    scene.join(f"mgt1:{port}", UnreachableError, "mgt1", f"127.0.0.1:{port}", "refused")


@pytest.mark.peers(26)
def test_server_that_never_answers_is_given_up_in_time(scene: Scene) -> None:
    """The deadline holds for the handshake too."""
    with silent_server() as false:
        scene.join(false.where, UnreachableError, false.where, "no answer within")


def test_server_without_tls_is_named(scene: Scene) -> None:
    """A web server, for example; it gets a TLS hello and no more."""
    with serving(answers_http) as false:
        scene.join(false.where, UnreachableError, false.where, "TLS")
        assert all(sent[:1] == b"\x16" for sent in false.received)


def test_server_that_hangs_up_is_named(scene: Scene) -> None:
    """Also one that closes before a byte was exchanged."""
    with serving(hangs_up) as false:
        scene.join(false.where, UnreachableError, false.where)


def false_challenge(scene: Scene, guests: Sequence[Mapping[str, str]]) -> bytes:
    """Return what mgt1 says to a stranger, with other guest lists."""
    return json.dumps({**challenge_of(scene.mgt1), "guests": guests}).encode()


def test_server_with_the_right_guest_list_that_is_not_on_it_is_refused(scene: Scene) -> None:
    """The lists are no secret: to show the right one proves nothing without a key of it."""
    leaf = scene.authority.issue("mgt1", 7)
    body = false_challenge(scene, challenge_of(scene.mgt1)["guests"])
    with serving(answers_tls(scene.authority.server_context(leaf), body)) as false:
        scene.join(
            false.where,
            InvitationError,
            false.where,
            "is not on the guest list of the token",
            "join one of those on the list: mgt1;",
        )
        assert_stranger_asked(false, scene.token)


@pytest.mark.parametrize("how", ["added", "alone", "none"])
def test_guest_list_that_does_not_hash_to_the_token_is_refused(scene: Scene, how: str) -> None:
    """Who puts itself on the list, or says that it is the list, is found out by the hash."""
    leaf = scene.authority.issue("mgt1", 8)
    itself = {leaf.facts.fingerprint: "mgt1"}
    lists = {
        "added": [{**guests, **itself} for guests in challenge_of(scene.mgt1)["guests"]],
        "alone": [itself],
        "none": [],
    }[how]
    body = false_challenge(scene, lists)
    with serving(answers_tls(scene.authority.server_context(leaf), body)) as false:
        scene.join(
            false.where,
            InvitationError,
            false.where,
            "shows no guest list that the token for mgt2 was made with",
        )
        assert_stranger_asked(false, scene.token)


@pytest.mark.parametrize("guests", [None, "all", {"mgt1": "x"}, [1, [], "x"] * 100])
def test_answer_without_guest_lists_is_an_error_like_any_other(
    scene: Scene, guests: object
) -> None:
    """Whatever a server says to the question: one clear error, and nothing more is sent."""
    leaf = scene.authority.issue("mgt1", 10)
    body = json.dumps({**challenge_of(scene.mgt1), "guests": guests}).encode()
    with serving(answers_tls(scene.authority.server_context(leaf), body)) as false:
        scene.join(false.where, ProtocolError, false.where, "shows no guest lists")
        assert_stranger_asked(false, scene.token)


def test_nothing_is_sent_to_one_who_takes_over_after_the_first_look(scene: Scene) -> None:
    """Every connection is verified, not just the one on which the certificate was looked at."""
    leaf = scene.authority.issue("mgt1", 9)
    context = scene.authority.server_context(leaf)
    mgt1 = (scene.mgt1.address, scene.mgt1.port)
    with serving(relays_first(mgt1, records_tls(context))) as false:
        scene.join(false.where, UnreachableError, false.where, "another certificate")
        assert b"".join(false.received) == b""


PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy")
BUNDLE_VARIABLES = ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR")
ETCD_VARIABLES = {
    "ETCD_NAME": "other",
    "ETCD_DATA_DIR": "/proc/no-such-folder",
    "ETCD_LISTEN_CLIENT_URLS": "http://127.0.0.1:1",
    "ETCD_INITIAL_CLUSTER": "other=http://127.0.0.1:1",
    "ETCDCTL_ENDPOINTS": "http://127.0.0.1:1",
}


@pytest.mark.peers(26)
@pytest.mark.parametrize("kind", ["proxy", "ca-bundle", "etcd"])
def test_environment_of_others_is_ignored(cluster: Cluster, tmp_path: Path, kind: str) -> None:
    """Daemon and command go their own way: a collective is made, and its members see each other.

    The proxy listens and would never answer; at the end nobody has come to it.
    """
    garbage = tmp_path / "garbage.pem"
    garbage.write_text("this is no certificate\n")
    with socket.create_server(("127.0.0.1", 0)) as proxy:
        url = f"http://127.0.0.1:{proxy.getsockname()[1]}"
        proxies = {v: url for name in PROXY_VARIABLES for v in (name, name.upper())}
        environment = {
            "proxy": proxies,
            "ca-bundle": dict.fromkeys(BUNDLE_VARIABLES, str(garbage)),
            "etcd": ETCD_VARIABLES,
        }[kind]
        mgt1, mgt2 = (cluster.add() for _ in range(2))
        for server in (mgt1, mgt2):
            server.environment.update(environment)
        cluster.start_all([mgt1, mgt2])
        mgt1.wait_for_quorum()
        assert cluster.join(mgt2, mgt1).out == "Success\n"
        for server in (mgt1, mgt2):
            assert server.run("show", check=True).lines[:2] == ["Quorum: True", "Leader: mgt1"]
            cluster.wait_until_all_active(server, [mgt1, mgt2])
        proxy.setblocking(False)
        with pytest.raises(BlockingIOError):
            proxy.accept()
