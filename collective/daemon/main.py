"""``collectived``: settings, log, signals, systemd; ``collective.daemon.server`` does the work."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from pathlib import Path

from collective.daemon.addresses.mover import Mover
from collective.daemon.doors import control, member
from collective.daemon.idle import idle_error
from collective.daemon.joining.enlist import Enlister
from collective.daemon.lives import all_listen_addresses
from collective.daemon.membership.promotee import Promotee
from collective.daemon.notify import Notifier
from collective.daemon.parser import make_parser
from collective.daemon.server import CollectiveServer
from collective.daemon.settings import Settings, load_settings
from collective.errors import CollectiveError
from collective.model.layout import Layout
from collective.model.plan import Mode
from collective.protocol.door import Door

log = logging.getLogger("collective.daemon")

_CONTROL_MODE = 0o660
_BEAT_SECONDS = 5.0
_LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon until it is told to stop; return the exit code."""
    options = make_parser().parse_args(arguments)
    try:
        layout = Layout.from_environment(os.environ)
        path = Path(options.config or layout.settings_file)
        settings = load_settings(path)
        if options.check:
            print(f"{path}: the settings are valid")
            return 0
        _set_up_log(settings.log_level)
        return _run(settings, layout, path)
    except CollectiveError as error:
        print(f"collectived: error: {error.message}", file=sys.stderr)
        if error.hint:
            print(f"collectived: hint: {error.hint}", file=sys.stderr)
        return error.exit_code


def _set_up_log(level: str) -> None:
    logging.basicConfig(stream=sys.stderr, format=_LOG_FORMAT, level=level.upper())
    for noisy in ("urllib3", "requests", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _run(settings: Settings, layout: Layout, path: Path) -> int:
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    notifier = Notifier(os.environ)
    server = CollectiveServer(settings, layout)
    try:
        server.doors.start()
        server.start()
        enlister, mover = Enlister(server), Mover(server, lambda: load_settings(path))
        open_doors(server, enlister, mover)
        enlister.resume()
        Promotee(server, enlister).start()
        mover.start()
        notifier.ready()
        _wait(server, notifier, told)
        notifier.stopping()
    finally:
        server.stop()
    return 0


def open_doors(server: CollectiveServer, enlister: Enlister, mover: Mover) -> None:
    """Open the network door and the control socket.

    Raises:
        InputError: an address is taken or not here.
        AccessError: a port or folder is not ours to use.
    """
    door = Door("member", member.handler(server, enlister))
    server.front.open(door, all_listen_addresses(server.settings, server.plan))
    control_door = Door("control", control.handler(server, enlister, mover))
    server.doors.listen_unix(control_door, Path(server.layout.control_socket), _CONTROL_MODE)


def _wait(server: CollectiveServer, notifier: Notifier, told: threading.Event) -> None:
    """Tell systemd how things are, and that this process lives, until told to stop."""
    beat = min(_BEAT_SECONDS, notifier.watchdog_seconds or _BEAT_SECONDS)
    while True:
        # The loop of the doors must answer too, or nobody could reach us and systemd should act.
        server.doors.between_handshakes(lambda: None)
        notifier.watchdog()
        notifier.status(_status_line(server))
        if told.wait(beat):
            return


def _status_line(server: CollectiveServer) -> str:
    plan, node = server.plan, server.node
    if node is None:
        return f"{idle_error(plan, server.trouble).message}; see 'collective show'"
    if node.failure is not None:
        return node.failure
    members = len(node.replica.view.members)
    if plan.mode is Mode.NONVOTING:
        return f"member of a collective of {members}, without a vote"
    if plan.mode is not Mode.MEMBER:
        return "joining"
    return "a collective of one" if members <= 1 else f"member of a collective of {members}"


if __name__ == "__main__":
    sys.exit(main())
