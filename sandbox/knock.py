"""Knock at a door with a certificate: does a server that was deleted still get in?

``python -m sandbox.knock ADDRESS:PORT PATH FOLDER`` asks for PATH over TLS, as the server whose
``server.pem`` and ``trusted.pem`` are in FOLDER: its key and certificate, and those of the voters
that it knew. It prints what came of it, and ends with 0 only if the door opened (HTTP 200).
"""

from __future__ import annotations

import argparse
import http.client
import json
import ssl
import sys
from pathlib import Path

_SECONDS = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Knock once, and say how it went."""
    parser = argparse.ArgumentParser(prog="python -m sandbox.knock")
    parser.add_argument("door", metavar="ADDRESS:PORT")
    parser.add_argument("path", metavar="PATH")
    parser.add_argument("folder", metavar="FOLDER", type=Path)
    options = parser.parse_args(arguments)
    opened, text = knock(options.door, options.path, options.folder)
    print(f"{'the door opened' if opened else 'refused'}: {text}")
    return 0 if opened else 1


def knock(door: str, path: str, folder: Path) -> tuple[bool, str]:
    """Ask for a path at a door.

    Args:
        door: address and port.
        path: of the request.
        folder: where ``server.pem`` and ``trusted.pem`` are.

    Returns:
        Whether the door opened, and the answer or the reason.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(folder / "trusted.pem")
    context.load_cert_chain(folder / "server.pem")
    host, _, port = door.rpartition(":")
    connection = http.client.HTTPSConnection(host, int(port), timeout=_SECONDS, context=context)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        return answer.status == http.client.OK, _summary(answer.status, answer.read())
    except (OSError, http.client.HTTPException) as error:
        return False, str(error) or type(error).__name__
    finally:
        connection.close()


def _summary(status: int, body: bytes) -> str:
    try:
        said = json.loads(body)
    except ValueError:
        said = None
    if status != http.client.OK and isinstance(said, dict):
        said = said.get("error", said)
        text = str(said.get("message", said)) if isinstance(said, dict) else str(said)
        return f"HTTP {status}, {text}"
    return f"HTTP {status}"


if __name__ == "__main__":
    sys.exit(main())
