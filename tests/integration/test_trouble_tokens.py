"""Tokens and names that are not good: each is one clear error, and changes nothing.

The servers are shared by the tests of this module; when these are done, the server that was
refused all the time joins with the token that was pending all the time.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import pytest

from collective.errors import (
    CollectiveError,
    InputError,
    InvitationError,
    QuorumError,
    RefusedError,
)
from collective.model.token import HASH_BYTES, SEED_BYTES, Token
from tests.harness import Cluster, Server, temporary_folder, wait_until
from tests.harness.trouble import Facts, assert_refused, facts, one_etcd, settle
from tools.etcd_versions import Etcd

pytestmark = pytest.mark.integration

MakeCluster = Callable[..., Cluster]
SECONDS = 10.0
TTL_SECONDS = 10.0  # the least that invite takes


@pytest.fixture
def etcd() -> Etcd:
    """One version is enough: tokens are not etcd's."""
    return one_etcd()


@dataclass
class Scene:
    """mgt1 has invited mgt2 and mgt9; mgt3 is another collective, which has invited mgt2 too.

    Attributes:
        replaced, pending: mgt1's tokens for mgt2, the former and the one that is good.
        other_name: mgt1's token for mgt9.
        short_lived: mgt3's token for mgt2.
        short_lived_until: when that ends, in seconds since the epoch.
    """

    mgt1: Server
    mgt2: Server
    mgt3: Server
    replaced: str = field(repr=False)
    pending: str = field(repr=False)
    other_name: str = field(repr=False)
    short_lived: str = field(repr=False)
    short_lived_until: float

    def __post_init__(self) -> None:
        self._before = self._now()

    def _now(self) -> tuple[Facts, Facts]:
        return facts(self.mgt1), facts(self.mgt2)

    def assert_unchanged(self) -> None:
        """See that mgt1 and mgt2 are what they were before the first test."""
        assert self._now() == self._before


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with temporary_folder() as folder, Cluster(folder, one_etcd().etcd) as cluster:
        mgt1, mgt2, mgt3 = cluster.add_running(3)
        for server in (mgt1, mgt2, mgt3):
            settle(server)
        replaced, pending, other = (
            mgt1.run("invite", name, check=True).out.strip() for name in ("mgt2", "mgt2", "mgt9")
        )
        short = mgt3.run("invite", "mgt2", "--ttl", f"{TTL_SECONDS:.0f}s", check=True).out.strip()
        until = time.time() + TTL_SECONDS
        yield Scene(mgt1, mgt2, mgt3, replaced, pending, other, short, until)
        joined = mgt2.run("join", mgt1.door_name, input=pending, check=True)
        assert joined.out == "Success\n"
        cluster.wait_until_all_active(mgt1, [mgt1, mgt2])


@pytest.fixture
def logs(scene: Scene) -> Iterator[None]:
    """Show what the shared servers logged during a test that failed."""
    servers = (scene.mgt1, scene.mgt2, scene.mgt3)
    before = [len(server.log_text) for server in servers]
    yield
    for server, length in zip(servers, before, strict=True):
        print(f"log of {server.name}:\n{server.log_text[length:]}")


def base64_of(raw: bytes) -> str:
    return base64.b64encode(raw + b"\0" * (-len(raw) % 3)).decode()


def with_bit_flipped(token: str, index: int) -> str:
    """Flip a bit of a byte behind the name."""
    raw = bytearray(base64.b64decode(token))
    raw[raw.index(b"@") + 1 + index] ^= 1
    return base64.b64encode(raw).decode()


def renamed(token: str, name: str) -> str:
    old = Token.parse(token)
    return Token(name, old.seed, old.guests).to_text()


BAD_TOKENS: dict[str, tuple[Callable[[Scene], str], type[CollectiveError], str]] = {
    "empty": (lambda s: "\n", InputError, "no token was given"),
    "words": (lambda s: "collective: error: no quorum", InvitationError, "garbled"),
    "letters-of-no-base64": (lambda s: "töken" + s.pending, InvitationError, "garbled"),
    "base64-of-words": (lambda s: base64_of(b"hello world"), InvitationError, "names no server"),
    "name-that-is-none": (
        lambda s: base64_of(b"../x@" + bytes(64)),
        InvitationError,
        "names no server",
    ),
    "endless": (lambda s: s.pending * 20, InvitationError, "too long"),
    "one-letter-lost": (lambda s: s.pending[:-1], InvitationError, "garbled"),
    "last-bytes-lost": (lambda s: s.pending[:-4], InvitationError, "cut short: 61 bytes of 64"),
    "half": (lambda s: s.pending[: len(s.pending) // 8 * 4], InvitationError, "cut short"),
    "beginning-lost": (lambda s: s.pending[8:], InvitationError, "garbled"),
    "seed-altered": (lambda s: with_bit_flipped(s.pending, 0), InvitationError, "was altered"),
    "seeds-end-altered": (
        lambda s: with_bit_flipped(s.pending, SEED_BYTES - 1),
        InvitationError,
        "was altered",
    ),
    "guests-altered": (
        lambda s: with_bit_flipped(s.pending, SEED_BYTES),
        InvitationError,
        "shows no guest list that the token for mgt2 was made with",
    ),
    "guests-end-altered": (
        lambda s: with_bit_flipped(s.pending, SEED_BYTES + HASH_BYTES - 1),
        InvitationError,
        "shows no guest list that the token for mgt2 was made with",
    ),
    "of-another-name": (lambda s: s.other_name, InvitationError, "is for mgt9, this server is"),
    "name-altered": (lambda s: renamed(s.pending, "mgt9"), InvitationError, "is for mgt9"),
    "of-another-name-renamed": (
        lambda s: renamed(s.other_name, "mgt2"),
        InvitationError,
        "does not fit the invitation for mgt2",
    ),
    "replaced": (lambda s: s.replaced, InvitationError, "replaced by a newer one"),
    "of-another-collective": (
        lambda s: s.short_lived,
        InvitationError,
        "or is for another collective",
    ),
}


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize("case", BAD_TOKENS)
def test_bad_token_is_refused(scene: Scene, case: str) -> None:
    """Whatever is wrong with it is said, without repeating it; the good one stays good."""
    make, error, words = BAD_TOKENS[case]
    token = make(scene)
    result = scene.mgt2.run("join", scene.mgt1.door_name, input=token + "\n", timeout=SECONDS)
    assert_refused(result, error, words)
    assert token.strip() == "" or token.strip() not in result.err
    scene.assert_unchanged()


@pytest.mark.usefixtures("logs")
def test_expired_token_is_refused(scene: Scene) -> None:
    """After its time it opens nothing, and the inviting member forgets it."""
    left = scene.short_lived_until - time.time()
    # It is the store that lets it go, when the lease has ended there.
    wait_until(
        lambda: "no invitation" in scene.mgt3.run("invite", "--list").err,
        max(0.0, left) + 3 * TTL_SECONDS,
        "the token's end",
    )
    result = scene.mgt2.run("join", scene.mgt3.door_name, input=scene.short_lived, timeout=SECONDS)
    assert_refused(result, InvitationError, "expired", "collective invite mgt2")
    scene.assert_unchanged()
    assert len(facts(scene.mgt3).members) == 1


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize("where", ["no-such-file", "."])
def test_token_file_that_cannot_be_read_is_named(scene: Scene, where: str) -> None:
    """A file that is not there, or a folder, is told as such."""
    path = scene.mgt2.root / where
    result = scene.mgt2.run("join", scene.mgt1.door_name, "-i", f"@{path}", timeout=SECONDS)
    assert_refused(result, InputError, str(path))


NO_NAMES = [
    "",
    "mgt 4",
    "mgt4\n",
    "../mgt4",
    "mgt_4",
    "mgt4-",
    "mgt4.example.com",
    "root@mgt4",
    "*",
    "mgt%34",
    "müller",
    "\N{FULLWIDTH LATIN SMALL LETTER M}gt4",
    "m" * 64,
    "m" * 5000,
]


@pytest.mark.usefixtures("logs")
def test_invalid_server_names_are_refused(scene: Scene) -> None:
    """The error has the name, shortened if it is long, and the hint has the rule."""
    for name in NO_NAMES:
        result = scene.mgt1.run("invite", name, timeout=SECONDS)
        assert_refused(result, InputError, "is not a server name", "one host name label")
        assert len(result.err) < 400
    for name in NO_NAMES[1:]:
        deleted = scene.mgt1.run("delete", name, "--force", timeout=SECONDS)
        assert_refused(deleted, InputError, "is not a server name")
    scene.assert_unchanged()


NO_PLACES = [
    "",
    "mgt1:0",
    "mgt1:65536",
    "mgt1:door",
    "mgt1:",
    ":13002",
    "[::1",
    "https://mgt1",
    "root@mgt1",
    "mgt1 mgt2",
]


@pytest.mark.usefixtures("logs")
def test_invalid_places_to_join_are_refused(scene: Scene) -> None:
    """They are told apart from a server that cannot be reached."""
    for place in NO_PLACES:
        result = scene.mgt2.run("join", place, input=scene.pending, timeout=SECONDS)
        assert_refused(result, InputError, repr(place))
    scene.assert_unchanged()


@pytest.mark.usefixtures("logs")
def test_invalid_ttls_are_refused(scene: Scene) -> None:
    """The error says what is allowed; nothing is invited."""
    for ttl in ("9s", "31d", "90", "soon", "-1h", ""):
        result = scene.mgt1.run("invite", "mgt8", f"--ttl={ttl}", timeout=SECONDS)
        assert_refused(result, InputError)
    scene.assert_unchanged()


@pytest.mark.usefixtures("logs")
def test_ttl_of_zero_is_refused(scene: Scene) -> None:
    """Nothing is invited for another time than was asked for."""
    # On mgt3, whose records no other test compares.
    result = scene.mgt3.run("invite", "mgt8", "--ttl=0s", timeout=SECONDS)
    assert_refused(result, InputError, "10s")


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize(
    ("joiner", "host"),
    [
        ("mgt2", "mgt2"),
        ("mgt2", "MGT2"),
        ("mgt2", "127.0.0.2"),
        ("mgt1", "127.0.0.1"),
        ("mgt1", "localhost"),
        ("mgt1", "0.0.0.0"),
    ],
)
def test_joining_oneself_is_refused(scene: Scene, joiner: str, host: str) -> None:
    """By whatever name or address, before anything else is looked at."""
    server: Server = getattr(scene, joiner)
    token = Token(joiner, bytes(32), bytes(32)).to_text()
    result = server.run("join", f"{host}:{server.port}", input=token, timeout=SECONDS)
    assert_refused(result, RefusedError, host, "that is this server")
    scene.assert_unchanged()


@pytest.mark.usefixtures("logs")
@pytest.mark.parametrize("name", ["mgt1", "MGT1"])
def test_inviting_oneself_is_refused(scene: Scene, name: str) -> None:
    """Also in other letters."""
    result = scene.mgt1.run("invite", name, timeout=SECONDS)
    assert_refused(result, RefusedError, "mgt1", "that is this server")
    scene.assert_unchanged()


def test_members_neither_join_elsewhere_nor_are_invited(make_cluster: MakeCluster) -> None:
    """A collective of two: no member of it is taken away, by any of its two sides."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    (mgt3,) = cluster.add_running(1)
    settle(mgt3)
    tokens = {name: mgt3.run("invite", name, check=True).out for name in ("mgt1", "mgt2")}
    before = [facts(server) for server in (mgt1, mgt2, mgt3)]

    for server, other in ((mgt1, "mgt2"), (mgt2, "mgt1")):
        result = server.run("join", mgt3.door_name, input=tokens[server.name], timeout=SECONDS)
        assert_refused(result, RefusedError, server.name, f"with {other}", "collective delete")
    for server, name in ((mgt1, "mgt2"), (mgt2, "mgt1"), (mgt1, "MGT2")):
        result = server.run("invite", name, timeout=SECONDS)
        assert_refused(result, RefusedError, name.lower(), "is a member", "collective delete")

    assert [facts(server) for server in (mgt1, mgt2, mgt3)] == before
    assert cluster.join(mgt3, mgt2).out == "Success\n"


def test_delete_of_empty_name_is_refused(make_cluster: MakeCluster) -> None:
    """``collective delete "$UNSET"`` does not take this server out of its collective."""
    mgt1, mgt2 = make_cluster(2).servers.values()
    before = facts(mgt1)
    result = mgt2.run("delete", "", timeout=SECONDS)
    assert_refused(result, InputError, "is not a server name")
    assert facts(mgt1) == before


def test_spent_token_is_refused(make_cluster: MakeCluster) -> None:
    """It let one server in, once; when that server was deleted it does not let it in again."""
    cluster = make_cluster(1)
    (mgt1,) = cluster.servers.values()
    (mgt2,) = cluster.add_running(1)
    token = mgt1.run("invite", "mgt2", check=True).out
    mgt2.run("join", mgt1.door_name, input=token, check=True)
    mgt1.run("delete", "mgt2", "--force", check=True)
    wait_until(lambda: mgt2.is_removed, SECONDS, "mgt2 knows that it was deleted")

    before = facts(mgt1)
    result = mgt2.run("join", mgt1.door_name, input=token, timeout=SECONDS)
    assert_refused(result, InvitationError, "no invitation for mgt2", "collective invite mgt2")
    assert facts(mgt1) == before
    assert cluster.join(mgt2, mgt1).out == "Success\n"


def test_voter_that_joined_after_the_token_names_those_on_the_list(
    make_cluster: MakeCluster,
) -> None:
    """A token knows the voters of its time alone; by one of them it is as good as before."""
    cluster = make_cluster(1)
    (mgt1,) = cluster.servers.values()
    mgt2, mgt3 = cluster.add_running(2)
    settle(mgt3)
    token = mgt1.run("invite", "mgt3", check=True).out
    cluster.join(mgt2, mgt1)
    for server in (mgt1, mgt2):
        settle(server)
    before = facts(mgt1), facts(mgt3)

    result = mgt3.run("join", mgt2.door_name, input=token, timeout=SECONDS)
    assert_refused(
        result,
        InvitationError,
        "is not on the guest list of the token",
        "join one of those on the list: mgt1;",
        "collective invite mgt3",
    )
    assert (facts(mgt1), facts(mgt3)) == before
    assert mgt3.run("join", mgt1.door_name, input=token, check=True).out == "Success\n"


def test_voter_with_a_new_certificate_is_not_on_an_old_list(make_cluster: MakeCluster) -> None:
    """``gencert`` makes it another server for tokens of before; the other one still is on it."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    (mgt3,) = cluster.add_running(1)
    token = mgt1.run("invite", "mgt3", check=True).out
    mgt1.run("gencert", check=True)

    result = mgt3.run("join", mgt1.door_name, input=token, timeout=SECONDS)
    assert_refused(result, InvitationError, "got another certificate", "on the list: mgt2;")
    # A majority of the list is needed, and one of two is none.
    result = mgt3.run("join", mgt2.door_name, input=token, timeout=3 * SECONDS)
    assert result.code == InvitationError.exit_code, result.err
    assert "only 1 of 2 servers on the guest list" in result.err
    assert cluster.join(mgt3, mgt1).out == "Success\n"


def test_without_quorum_nobody_is_invited_or_taken_in(make_cluster: MakeCluster) -> None:
    """Who is invited already waits: when the quorum is back, his token is as good as before."""
    cluster = make_cluster(2)
    mgt1, mgt2 = cluster.servers.values()
    (mgt3,) = cluster.add_running(1)
    settle(mgt3)
    token = mgt1.run("invite", "mgt3", check=True).out
    before, alone = facts(mgt1), facts(mgt3)

    mgt2.kill()
    result = mgt1.run("invite", "mgt4", timeout=SECONDS)
    assert_refused(result, QuorumError, "mgt4", "1 of 2 voters answer, quorum is 2")
    result = mgt3.run("join", mgt1.door_name, input=token, timeout=2 * SECONDS)
    assert_refused(result, QuorumError, "mgt3", "mgt1 has no quorum")
    assert facts(mgt3) == alone

    mgt2.start()
    mgt1.wait_for_quorum()
    assert facts(mgt1) == before
    joined = mgt3.run("join", mgt1.door_name, input=token, check=True)
    assert joined.out == "Success\n"
