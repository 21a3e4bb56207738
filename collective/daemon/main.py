"""``collectived``: settings, log, signals, systemd; ``app`` does the work."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from pathlib import Path

from collective import stdio
from collective.daemon.app import Daemon
from collective.daemon.journald import set_up_log, tell_failure
from collective.daemon.lifecycle.inactive import idle_error
from collective.daemon.lifecycle.server import CollectiveServer
from collective.daemon.lifecycle.state_file import known_name
from collective.daemon.notify import Notifier
from collective.daemon.parser import make_parser
from collective.daemon.settings import Settings, load_settings
from collective.errors import CollectiveError
from collective.etcd.binary import fit_etcd
from collective.model.layout import Layout

_BEAT_SECONDS = 1.0


def main(arguments: list[str] | None = None) -> int:
    """Run the daemon until it is told to stop; return the exit code."""
    stdio.repair()
    try:
        return _run_as_told(arguments)
    except CollectiveError as error:
        hint = [f"collectived: hint: {error.hint}"] if error.hint else []
        tell_failure([f"collectived: error: {error.message}", *hint], os.environ)
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
        places = [place for place in (layout, layout.former) if place is not None]
        known = next(filter(None, (known_name(Path(place.state)) for place in places)), None)
        return load_settings(path, named, known)

    settings = load()
    if options.check:
        stdio.write(f"{path}: the settings are valid\n")
        etcd = fit_etcd(settings.etcd, os.environ.get("PATH", ""), settings.allow_unsafe_etcd)
        stdio.write(f"{etcd.path}: etcd {etcd.version_text}, which would run\n")
        return 0
    set_up_log(settings.log_level, os.environ)
    return _run(settings, layout, load)


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
    """Tell systemd how things are, and that this process lives, until told to stop.

    Raises:
        AccessError: the folder of the sockets is gone, and cannot be made again from here.
    """
    beat = min(_BEAT_SECONDS, notifier.watchdog_seconds or _BEAT_SECONDS)
    shown = ""
    while True:
        # The loop of the doors must answer too, or nobody could reach us and systemd should act.
        server.doors.between_handshakes(lambda: None)
        server.run_folder.check()
        notifier.watchdog()
        line = _status_line(server)
        if line != shown:
            notifier.status(line)
            shown = line
        if told.wait(beat):
            return


def _status_line(server: CollectiveServer) -> str:
    runtime = server.runtime
    if runtime is None:
        return f"{idle_error(server.plan, server.trouble).message}; see 'collective show'"
    return runtime.etcd.failure or runtime.reporter.standing or "starting"


if __name__ == "__main__":
    sys.exit(main())
