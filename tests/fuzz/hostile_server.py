"""Servers with a good token, or a good certificate, that come with certificates nobody may take.

It says what happened, in sentences, and changes nothing that a finding would not be.
"""

from __future__ import annotations

import http.client
import json
import ssl
import tempfile
from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from collective.model.fingerprint import fingerprint_of
from collective.model.token import Token
from collective.pki import EnrollmentStatement, read_certificate, sign_enrollment
from collective.policy.admission import AS_INVITED
from collective.protocol import messages
from tests.fuzz.certificates import Made, good, hostile
from tests.fuzz.target import Target
from tests.harness.doors import http_over
from tests.harness.health import records
from tests.harness.server import Server

_NAME, _ADDRESS = "mgt9", "127.0.0.9"
_REFUSED = (400, 403, 409)


def join_without_vote(server: Server, sponsor: Server) -> None:
    """Have a server join that does not vote."""
    token = sponsor.run("invite", "-n", server.name, check=True).out
    server.run("join", sponsor.door_name, "-i", "-", input=token, check=True)


def try_certificates(target: Target, nonvoting: Server, token: str) -> list[str]:
    """Try every certificate that is none of ours, wherever one is taken or looked at.

    Args:
        target: the voter that is asked.
        nonvoting: a member without a vote.
        token: for mgt9, not claimed yet.

    Returns:
        What is wrong, one sentence each.
    """
    before = records(target.server)
    found = [
        *_claims(target, token, read_certificate(_pem(target.server)).serial),
        *_replacements(target, nonvoting),
        *_handshakes(target),
    ]
    if records(target.server) != before:
        found.append("the records have changed")
    target.judge_log()
    return found


def _pem(server: Server) -> str:
    return ssl.get_server_certificate((server.address, server.port))


def claim(
    target: Target, token: str, pem: str, address: str = _ADDRESS, dry_run: bool = False
) -> tuple[int, dict[str, Any]]:
    """Claim an invitation with a good proof; return the status and the message of the answer."""
    held = Token.parse(token)
    with target.connect() as sock:
        connection = http_over(sock)
        connection.request("GET", messages.CHALLENGE)
        nonce = json.load(connection.getresponse())["nonce"]
        statement = EnrollmentStatement(
            name=held.name,
            role=AS_INVITED,
            server_fingerprint=fingerprint_of(_pem(target.server)),
            nonce=nonce,
            certificate_fingerprint=fingerprint_of(pem),
            addresses=(address,),
            door_port=1,
            peer_port=2,
        )
        body = {
            "format": messages.FORMAT,
            "name": held.name,
            "role": AS_INVITED,
            "certificate": pem,
            "addresses": [address],
            "door_port": 1,
            "peer_port": 2,
            "signature": sign_enrollment(held.seed, statement).hex(),
            "dry_run": dry_run,
        }
        connection.request("POST", messages.CLAIM, json.dumps(body))
        response = connection.getresponse()
        return response.status, json.load(response)


def _claims(target: Target, token: str, serial: str) -> list[str]:
    """Claim with hostile certificates, and with one that has the voter's own serial number."""
    made = {
        **hostile(_NAME, _ADDRESS),
        "of other's number": good(_NAME, _ADDRESS, int(serial, 16)),
    }
    for name in ("mgt1", "mgt2"):
        address = target.server.address if name == "mgt1" else target.member.address
        made[f"for the address of {name}"] = good(_NAME, address)
    found = []
    for what, each in made.items():
        status, answer = claim(target, token, each.pem)
        if status not in _REFUSED or "error" not in answer:
            found.append(f"a claim with a certificate ({what}) got {status}: {answer}")
    # Or each was refused for something else than its certificate.
    status, answer = claim(target, token, good(_NAME, _ADDRESS).pem, dry_run=True)
    judged = {f["check"]: f for f in answer.get("findings", ())}
    if status != 200 or not judged.get("invitation", {}).get("ok"):
        found.append(f"a good proof with a good certificate got {status}: {answer}")
    return found


def _replacements(target: Target, nonvoting: Server) -> list[str]:
    """Have hostile certificates recorded, or announced, by members that have a good one."""
    found = []
    asked = ((messages.CERTIFICATE, nonvoting), (messages.READDRESS, nonvoting))
    for path, server in (*asked, (messages.READDRESS, target.member)):
        context = _context(server.layout.pki + "/server.pem")
        for what, each in hostile(server.name, server.address).items():
            body = {"certificate": each.pem, "address": server.address}
            status, text = _post(target, context, path, body)
            if status not in _REFUSED:
                found.append(f"{path} of {server.name} with ({what}) got {status}: {text}")
    return found


def _handshakes(target: Target) -> list[str]:
    """Show certificates that say to be a member's: the name, the number, all but the key."""
    member = read_certificate(_pem(target.member))
    serial = int(member.serial, 16)
    made = {
        **hostile(member.name, target.member.address, serial),
        "like the member's own": good(member.name, target.member.address, serial),
        "of a stranger": good(_NAME, _ADDRESS),
    }
    found = []
    for what, each in made.items():
        status = _show(target, each)
        if status is not None:
            found.append(f"a certificate ({what}) was let in: {status}")
    return found


def _show(target: Target, made: Made) -> int | None:
    """Ask for a status with a certificate; None where the connection is refused."""
    with tempfile.NamedTemporaryFile() as file:
        file.write(made.both)
        file.flush()
        context = _context(file.name)
    with suppress(OSError, http.client.HTTPException):
        return _post(target, context, messages.SYNC, {})[0]
    return None


def _context(file: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.load_cert_chain(file)
    return context


def _post(
    target: Target, context: ssl.SSLContext, path: str, body: Mapping[str, object]
) -> tuple[int, str]:
    with context.wrap_socket(target.dial()) as sock:
        connection = http_over(sock)
        connection.request("POST", path, json.dumps({"format": messages.FORMAT, **body}))
        response = connection.getresponse()
        return response.status, response.read(300).decode(errors="replace")
