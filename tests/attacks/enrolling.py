"""A joiner's claim, made by whoever has the token, for whatever certificate.

It does not prove that it has the certificate's key: nobody is asked for that before the dial-back.
"""

from __future__ import annotations

import hashlib
import json
import ssl
from collections.abc import Sequence

from collective.model.token import Token
from collective.pki import EnrollmentStatement, sign_enrollment
from tests.harness import Server
from tests.harness.certificates import fingerprint_of
from tests.harness.doors import connect_tls, http_over

_SECONDS = 20.0


def claim(
    sponsor: Server, text: str, certificate: str, addresses: Sequence[str], ports: tuple[int, int]
) -> tuple[int, str]:
    """Claim an invitation; return the status and what the sponsor says.

    Args:
        sponsor: a voter.
        text: the token.
        certificate: PEM.
        addresses: that the joiner asks to be known by.
        ports: of its door, and of its etcd.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    token = Token.parse(text)
    with connect_tls((sponsor.address, sponsor.port), context) as tls:
        tls.settimeout(_SECONDS)
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
            certificate_fingerprint=fingerprint_of(certificate),
            addresses=tuple(addresses),
            door_port=ports[0],
            peer_port=ports[1],
        )
        body = {
            "format": 1,
            "name": token.name,
            "role": "invited",
            "certificate": certificate,
            "addresses": list(addresses),
            "door_port": ports[0],
            "peer_port": ports[1],
            "signature": sign_enrollment(token.seed, statement).hex(),
            "dry_run": False,
        }
        connection.request("POST", "/v1/enroll/claim", json.dumps(body))
        response = connection.getresponse()
        return response.status, response.read().decode()
