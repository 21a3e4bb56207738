"""``python3 -m confluent_collective``: start Confluent on the collective, check it, or import.

    run SCRIPT ...        start Confluent, whose own script is named, with its arguments
    check                 say whether this release of Confluent was tried
    import [FOLDER]       make the configuration of this server that of the collective

It is run with Confluent's own interpreter, by a drop-in of confluent.service: docs/confluent.md.
"""

from __future__ import annotations

import argparse
import getpass
import importlib
import importlib.util
import json
import logging
import os
import runpy
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import collective
from collective.errors import CollectiveError, RefusedError
from confluent_collective import importing, release
from confluent_collective.documents import CHANGE_KEY
from confluent_collective.runtime import ConfluentRuntime
from confluent_collective.seam import Seam

LIBRARY = "/opt/confluent/lib/python"
CONFIGURATION = "/etc/confluent/cfg"
#: Set to "yes" to run on a release that was not tried.
UNTRIED = "COLLECTIVE_CONFLUENT_UNTRIED"
PID_FILE = "/var/run/confluent/pid"


def main(arguments: Sequence[str] | None = None) -> int:
    """Do what was typed; return the exit status."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(format="confluent-collective: %(message)s", level=logging.INFO)
    if LIBRARY not in sys.path and Path(LIBRARY).is_dir():
        sys.path.append(LIBRARY)
    try:
        return int(parsed.does(parsed) or 0)
    except CollectiveError as error:
        print(f"confluent-collective: error: {error}", file=sys.stderr)
        if error.hint:
            print(f"confluent-collective: hint: {error.hint}", file=sys.stderr)
        return error.exit_code


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python3 -m confluent_collective")
    verbs = parser.add_subparsers(required=True)
    run = verbs.add_parser("run", help="start Confluent on the collective")
    run.add_argument("script", help="Confluent's own, such as /opt/confluent/bin/confluent")
    run.add_argument("words", nargs=argparse.REMAINDER, help="its arguments")
    run.set_defaults(does=_run)
    verbs.add_parser("check", help="say whether this Confluent was tried").set_defaults(
        does=_check
    )
    take = verbs.add_parser("import", help="make a configuration that of the collective")
    take.add_argument("folder", nargs="?", default=CONFIGURATION, type=Path)
    take.add_argument(
        "--check", action="store_true", help="say what would hinder it, change nothing"
    )
    take.add_argument(
        "--replace", action="store_true", help="in the place of one that the collective has"
    )
    take.add_argument("--json", action="store_true", help="with --check: say it as one object")
    take.add_argument(
        "--password-file",
        type=Path,
        metavar="FILE",
        help="holds the password of a protected dump (default: it is asked for)",
    )
    take.set_defaults(does=_import)
    return parser


def judged() -> str | None:
    """Return the release of the Confluent that is installed, None for one that was not tried.

    Raises:
        RefusedError: there is none, or it was not tried and is not allowed.
    """
    spec = importlib.util.find_spec("confluent")
    places = None if spec is None else list(spec.submodule_search_locations or ())
    if not places:
        raise RefusedError("there is no Confluent in this interpreter", f"run it with {LIBRARY}")
    allowed = os.environ.get(UNTRIED) == "yes"
    return release.judge(release.hashes_of(Path(places[0])), release.known_releases(), allowed)


def _check(_parsed: argparse.Namespace) -> None:
    found = judged()
    print(
        f"Confluent {found} was tried" if found else "this Confluent was not tried, and is allowed"
    )


def _run(parsed: argparse.Namespace) -> None:
    """Start Confluent; what it would begin of its own collective is ours."""
    judged()
    cfm, manager = _modules()
    runtime = ConfluentRuntime(Seam(cfm, manager))
    runtime.hook()
    sys.argv = [parsed.script, *parsed.words]
    runpy.run_path(parsed.script, run_name="__main__")


def _import(parsed: argparse.Namespace) -> int:
    judged()
    if _runs() and not parsed.check:
        raise RefusedError("Confluent runs", "stop it: systemctl stop confluent")
    cfm, _ = _modules()
    own = Path(cfm.ConfigManager._cfgdir)
    begun = None
    if importing.is_dump(parsed.folder):
        _refuse_others(own)
        begun = partial(importing.write_here, cfm, own)
    importing.read_configuration(cfm, parsed.folder, _password(parsed))
    errors, warnings = importing.findings(cfm)
    if parsed.check and parsed.json:
        print(json.dumps(_looked(cfm, errors, warnings)))
        return 0
    for text in warnings:
        print(f"confluent-collective: warning: {text}", file=sys.stderr)
    for text in errors:
        print(f"confluent-collective: error: {text}", file=sys.stderr)
    if errors:
        return RefusedError.exit_code
    if parsed.check:
        count, changes = len(dict(importing.documents_of(cfm))), getattr(cfm, "_txcount", 0)
        print(f"{count} entries can be imported; transaction count {changes}")
        return 0
    with collective.connect() as handle:
        count = importing.import_configuration(handle, cfm, begun, parsed.replace)
    print(f"Success: {count} entries of {parsed.folder} are those of the collective now")
    return 0


def _looked(cfm: Any, errors: list[str], warnings: list[str]) -> dict[str, Any]:
    """Return what whoever takes servers in has to know of this one; it only grows."""
    with collective.connect() as handle:
        return {
            "name": cfm.get_myname(),
            "entries": len(dict(importing.documents_of(cfm))) if not errors else 0,
            "transactions": getattr(cfm, "_txcount", 0),
            "errors": errors,
            "warnings": warnings,
            "member": handle.name,
            "members": sorted(member.name for member in handle.members()),
            "quorum": handle.quorum,
            "is_taken": handle.store.get(CHANGE_KEY) is not None,
        }


def _password(parsed: argparse.Namespace) -> str | None:
    """Return the password of a dump, None where there is none; it is never an argument."""
    folder, file = parsed.folder, parsed.password_file
    if not importing.is_dump(folder) or not importing.is_protected(folder):
        return None
    if file is not None:
        try:
            return str(file.read_text("utf-8").removesuffix("\n"))
        except (OSError, ValueError) as error:
            raise RefusedError(f"cannot read the password in {file}: {error}") from None
    if not sys.stdin.isatty():
        raise RefusedError(
            f"the keys in {folder} are protected, and there is nobody to ask for the password",
            "name a file that holds it: --password-file",
        )
    return getpass.getpass(f"Password of the dump in {folder}: ")


def _refuse_others(folder: Path) -> None:
    """Refuse a user that would leave files behind that Confluent cannot write."""
    try:
        owner = folder.stat().st_uid
    except OSError as error:
        raise RefusedError(f"cannot import a dump: {folder}: {error.strerror}") from None
    if owner != os.geteuid():
        raise RefusedError(
            f"a dump becomes what is in {folder}, which belongs to user {owner}, and this "
            f"is user {os.geteuid()}",
            "run it as that user: sudo -u confluent -E ...",
        )


def _runs() -> bool:
    try:
        os.kill(int(Path(PID_FILE).read_text("ascii")), 0)
    except (OSError, ValueError):
        return False
    return True


def _modules() -> tuple[Any, Any]:
    return (
        importlib.import_module("confluent.config.configmanager"),
        importlib.import_module("confluent.collective.manager"),
    )


if __name__ == "__main__":
    sys.exit(main())
