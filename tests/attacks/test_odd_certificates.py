"""A certificate that not every library reads alike stops nobody but its owner (P1, P10, P12).

OpenSSL loads the certificates of all members at once for a door, Go those of all voters at once
for an etcd, and both fail on one that they do not read.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.attacks.enrolling import claim
from tests.attacks.hostile import MEMBERS, Kept, at_door, identity
from tests.attacks.sponsor import ELSEWHERE
from tests.harness import Cluster, Server, wait_until
from tests.harness.certificates import trusted_by_etcd
from tests.harness.health import records
from tests.harness.odd_certificates import BAD_URI, ODD_FORMS, PLAIN, VISIBLE, Odd
from tests.integration.test_nonvoting import join_nonvoting

pytestmark = [pytest.mark.integration, pytest.mark.slow]

MakeCluster = Callable[..., Cluster]
SECONDS = 60.0
INVITATIONS = "collective/v1/invitations/"


def put_record(through: Server, name: str, **changes: Any) -> None:
    """Write the record of a member as any voter can, over what is recorded of it.

    Args:
        through: a voter.
        name: of the member; one that there is not is written after the voter's own.
        changes: fields of the record.
    """
    found = records(through)
    former = json.loads(found.get(MEMBERS + name, found[MEMBERS + through.name]))
    through.etcdctl("put", MEMBERS + name, json.dumps({**former, "name": name, **changes}))


def wait_until_heard(servers: list[Server], word: str) -> None:
    """Wait until servers remember records with a word in them: they have taken them up."""
    for server in servers:
        remembered = Path(server.layout.state, "view.json")
        wait_until(
            lambda r=remembered: word in r.read_text(),  # type: ignore[misc]
            SECONDS,
            f"{server.name} has heard of {word}",
        )


def opened_by(pem: Path, servers: list[Server]) -> dict[str, bool]:
    """Return whose door a member's certificate opens, over a new connection."""
    return {s.name: at_door(s, pem, "GET", "/v1/status").is_good for s in servers}


def test_odd_certificate_of_a_server_without_a_vote_is_not_recorded(
    cluster: Cluster, tmp_path: Path
) -> None:
    """It may ask for its next one to be recorded; with one that is not odd that is done.

    Two of the odd ones: so often may a member ask in a minute. The last answer shows that it was
    not for having asked too often that the others were refused.
    """
    (mgt1,) = cluster.add_running(1)
    evil = join_nonvoting(cluster, mgt1)
    kept = Kept.of(evil, tmp_path / "kept", as_name="mgt1").pem
    evil.kill()
    before = records(mgt1)[MEMBERS + evil.name]
    addresses = [evil.address, "127.0.0.1", "::1"]

    for form in (VISIBLE, BAD_URI):
        body = {"format": 1, "certificate": form.made(evil.name, addresses).pem}
        answer = at_door(mgt1, kept, "POST", "/v1/certificate", body)
        assert 400 <= (answer.status or 0) < 500, f"{form}: {answer}"
        assert records(mgt1)[MEMBERS + evil.name] == before, form

    body = {"format": 1, "certificate": PLAIN.made(evil.name, addresses).pem}
    assert at_door(mgt1, kept, "POST", "/v1/certificate", body).is_good, "or this proves nothing"


def test_member_whose_certificate_openssl_cannot_read_shuts_no_door(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """Some voter has written it into its record: it is out, alone, and can be deleted."""
    cluster = make_cluster(3)
    voters = list(cluster.servers.values())
    mgt1, mgt2, mgt3 = voters
    evil = join_nonvoting(cluster, mgt1)
    honest = tmp_path / "honest.pem"
    honest.write_bytes(identity(Path(mgt2.layout.pki)).read_bytes())
    evil.kill()
    all_open = dict.fromkeys((server.name for server in voters), True)
    assert opened_by(honest, voters) == all_open, "or this test proves nothing"
    odd = VISIBLE.made(evil.name, [evil.address, "127.0.0.1"])

    put_record(mgt3, evil.name, certificates=[odd.pem], address=ELSEWHERE)
    wait_until_heard(voters, ELSEWHERE)

    assert opened_by(honest, voters) == all_open
    mgt3.kill()
    mgt3.launch()
    mgt3.wait_for_quorum(SECONDS)
    assert opened_by(honest, voters) == all_open
    mgt1.run("delete", "--force", evil.name, check=True)
    cluster.wait_until_all_active(mgt1, voters, SECONDS)


def claim_with(made: Odd, sponsor: Server, joiner: Server, token: str) -> tuple[int, str]:
    """Claim an invitation with a certificate, as a joiner does; return what the sponsor says."""
    ports = joiner.port, joiner.peer_port
    return claim(sponsor, token, made.pem, [joiner.address], ports)


def test_joiner_with_an_odd_certificate_is_refused_at_its_claim(cluster: Cluster) -> None:
    """Whatever is odd; with the same one without that it is welcome."""
    (mgt1,) = cluster.add_running(1)
    joiner = cluster.add("evil")
    token = mgt1.run("invite", "evil", check=True).out
    before = records(mgt1)

    for word, form in ODD_FORMS.items():
        status, said = claim_with(form.made("evil", [joiner.address]), mgt1, joiner, token)
        assert 400 <= status < 500, f"{word}: {status} {said}"
        assert records(mgt1)[INVITATIONS + "evil"] == before[INVITATIONS + "evil"], word

    status, said = claim_with(PLAIN.made("evil", [joiner.address]), mgt1, joiner, token)
    assert status == 200, said


def test_certificate_that_etcd_cannot_read_gets_into_no_trust_file(
    make_cluster: MakeCluster,
) -> None:
    """Some voter has recorded it as a joiner's; a good joiner beside it is taken up by all."""
    cluster = make_cluster(2)
    voters = list(cluster.servers.values())
    joiners = {"evil": "127.0.0.12", "good": "127.0.0.13"}
    forms = {"evil": BAD_URI, "good": PLAIN}
    made = {name: forms[name].made(name, [address]) for name, address in joiners.items()}

    for name, address in joiners.items():
        put_record(
            voters[0],
            name,
            role="learner",
            target="voter",
            member_id="",
            address=address,
            certificates=[made[name].pem],
        )
    wait_until_heard(voters, joiners["good"])
    for server in voters:
        wait_until(
            lambda s=server: made["good"].fingerprint in trusted_by_etcd(s),  # type: ignore[misc]
            SECONDS,
            f"the good joiner is taken up by {server.name}",
        )

    for server in voters:
        assert made["evil"].fingerprint not in trusted_by_etcd(server)
        server.wait_for_quorum(SECONDS)
    for server in voters:
        server.kill()
    cluster.start_all(voters)
    for server in voters:
        server.wait_for_quorum(SECONDS)
        assert made["evil"].fingerprint not in trusted_by_etcd(server)
