"""``collectived``: settings, log, signals, systemd; ``app`` does the work."""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from collective import stdio
from collective.daemon.app import Daemon
from collective.daemon.lifecycle.inactive import idle_error
from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.lifecycle.state_file import known_name
from collective.daemon.notify import Notifier
from collective.daemon.parser import make_parser
from collective.daemon.settings import Settings, load_settings
from collective.errors import CollectiveError
from collective.etcd.binary import fit_etcd
from collective.model.layout import Layout
from collective.model.plan import Mode

log = logging.getLogger("collective.daemon")

_BEAT_SECONDS = 5.0
_LOG_FORMAT = "%(levelname)s %(name)s: %(message)s"


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon until it is told to stop; return the exit code."""
    stdio.repair()
    try:
        return _run_as_told(arguments)
    except CollectiveError as error:
        stdio.tell(f"collectived: error: {error.message}\n")
        if error.hint:
            stdio.tell(f"collectived: hint: {error.hint}\n")
        return error.exit_code
    finally:
        stdio.settle()


def _run_as_told(arguments: list[str] | None) -> int:
    try:
        options = make_parser().parse_args(arguments)
    except SystemExit as end:
        return stdio.after_parser(end)
    layout = Layout.from_environment(os.environ)
    named = options.config is not None
    path = Path(options.config if named else layout.settings_file)

    def load() -> Settings:
        return load_settings(path, named, known_name(Path(layout.state)))

    settings = load()
    if options.check:
        stdio.write(f"{path}: the settings are valid\n")
        etcd = fit_etcd(settings.etcd, os.environ.get("PATH", ""), settings.allow_unsafe_etcd)
        stdio.write(f"{etcd.path}: etcd {etcd.version_text}, which would run\n")
        return 0
    _set_up_log(settings.log_level)
    return _run(settings, layout, load)


def _set_up_log(level: str) -> None:
    logging.basicConfig(stream=sys.stderr, format=_LOG_FORMAT, level=level.upper())
    for noisy in ("urllib3", "requests", "asyncio"):
        logging.getLogger(noisy).setLevel(logging.WARNING)


def _run(settings: Settings, layout: Layout, load: Callable[[], Settings]) -> int:
    told = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: told.set())
    notifier = Notifier(os.environ)
    daemon = Daemon(settings, layout, load)
    try:
        daemon.start()
        notifier.ready()
        _wait(daemon.server, notifier, told)
        notifier.stopping()
    finally:
        daemon.stop()
    return 0


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
    plan, runtime = server.plan, server.runtime
    if runtime is None:
        return f"{idle_error(plan, server.trouble).message}; see 'collective show'"
    if runtime.failure is not None:
        return runtime.failure
    members = len(runtime.records_view.view.members)
    if plan.mode is Mode.NONVOTING:
        return f"member of a collective of {members}, without a vote"
    if plan.mode is not Mode.MEMBER:
        return "joining"
    return "a collective of one" if members <= 1 else f"member of a collective of {members}"


if __name__ == "__main__":
    sys.exit(main())
