"""A certificate that not every library reads alike stops nobody but its owner (P1, P10, P12).

OpenSSL loads the certificates of all members at once for a door, Go those of all voters at once
for an etcd, and both fail on one that they do not read.
"""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from collective.model.token import Token
from collective.pki import EnrollmentStatement, sign_enrollment
from tests.attacks.hostile import MEMBERS, Kept, at_door, identity
from tests.attacks.sponsor import ELSEWHERE
from tests.harness import Cluster, Server, wait_until
from tests.harness.certificates import trusted_by_etcd
from tests.harness.doors import connect_tls, http_over
from tests.harness.health import records
from tests.harness.odd_certificates import BAD_URI, ODD_FORMS, PLAIN, VISIBLE, Odd
from tests.integration.test_nonvoting import join_nonvoting

pytestmark = pytest.mark.integration

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


def test_member_whose_certificate_openssl_cannot_read_shuts_no_door(
    make_cluster: MakeCluster, tmp_path: Path
) -> None:
    """It may ask for it to be recorded, and some voter may have written it: it is out, alone."""
    cluster = make_cluster(3)
    voters = list(cluster.servers.values())
    mgt1, mgt2, mgt3 = voters
    evil = join_nonvoting(cluster, mgt1)
    kept = Kept.of(evil, tmp_path / "kept", as_name="mgt2").pem
    honest = tmp_path / "honest.pem"
    honest.write_bytes(identity(Path(mgt2.layout.pki)).read_bytes())
    evil.kill()
    all_open = dict.fromkeys((server.name for server in voters), True)
    assert opened_by(honest, voters) == all_open, "or this test proves nothing"
    assert at_door(mgt1, kept, "GET", "/v1/status").is_good, "nor here"
    odd = VISIBLE.made(evil.name, [evil.address, "127.0.0.1"])
    before = records(mgt1)[MEMBERS + evil.name]

    body = {"format": 1, "certificate": odd.pem}
    answer = at_door(mgt1, kept, "POST", "/v1/certificate", body)

    assert records(mgt1)[MEMBERS + evil.name] == before, "it is recorded"
    assert not answer.is_good
    assert answer.status is not None, "it is told so"

    put_record(mgt3, evil.name, certificates=[odd.pem], address=ELSEWHERE)
    wait_until_heard(voters, ELSEWHERE)

    assert opened_by(honest, voters) == all_open
    mgt3.kill()
    mgt3.launch()
    mgt3.wait_for_quorum(SECONDS)
    assert opened_by(honest, voters) == all_open
    mgt1.run("delete", "--force", evil.name, check=True)
    cluster.wait_until_all_active(mgt1, voters, SECONDS)


def claim(sponsor: Server, joiner: Server, token_text: str, made: Odd) -> tuple[int, str]:
    """Claim an invitation with a certificate, as a joiner does; return what the sponsor says."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    token = Token.parse(token_text)
    with connect_tls((sponsor.address, sponsor.port), context) as tls:
        served = tls.getpeercert(True)
        assert served is not None
        connection = http_over(tls)
        connection.request("GET", "/v1/enroll/challenge")
        nonce = json.loads(connection.getresponse().read())["nonce"]
        statement = EnrollmentStatement(
            name=token.name,
            role="invited",
            server_fingerprint=hashlib.sha256(served).hexdigest(),
            nonce=nonce,
            certificate_fingerprint=made.fingerprint,
            addresses=(joiner.address,),
            door_port=joiner.port,
            peer_port=joiner.peer_port,
        )
        body = {
            "format": 1,
            "name": token.name,
            "role": "invited",
            "certificate": made.pem,
            "addresses": [joiner.address],
            "door_port": joiner.port,
            "peer_port": joiner.peer_port,
            "signature": sign_enrollment(token.seed, statement).hex(),
            "dry_run": False,
        }
        connection.request("POST", "/v1/enroll/claim", json.dumps(body))
        response = connection.getresponse()
        return response.status, response.read().decode()


def test_joiner_with_an_odd_certificate_is_refused_at_its_claim(cluster: Cluster) -> None:
    """Whatever is odd; with the same one without that it is welcome."""
    (mgt1,) = cluster.add_running(1)
    joiner = cluster.add("evil")
    token = mgt1.run("invite", "evil", check=True).out
    before = records(mgt1)

    for word, form in ODD_FORMS.items():
        status, said = claim(mgt1, joiner, token, form.made("evil", [joiner.address]))
        assert 400 <= status < 500, f"{word}: {status} {said}"
        assert records(mgt1)[INVITATIONS + "evil"] == before[INVITATIONS + "evil"], word

    status, said = claim(mgt1, joiner, token, PLAIN.made("evil", [joiner.address]))
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
