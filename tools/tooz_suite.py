"""``make tooz``: the coordination tests of OpenStack's tooz, over etcd3gw, against our members.

tooz is a library of locks, groups and leader elections with a driver for etcd3gw. Its own tests
tell whether etcd, as our daemon runs it, does what other people's software expects: at a voter of
a collective of three. At a server without a vote the voters pass on no keys but those below
``collective/store/`` and ``collective/coordination/``, and tooz has others.

etcd here listens on a unix socket alone, and tooz knows TCP alone: bytes are passed between the
two while this runs. Its packages go into an environment of their own, below ``.cache``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from sandbox.interrupts import INTERRUPTED, interruptible
from tests.harness import Cluster, Server, temporary_folder
from tools.etcd_versions import Etcd, etcds_in_use

_ROOT = Path(__file__).resolve().parent.parent
_ENVIRONMENT = _ROOT / ".cache" / "tooz"
_LOG = _ROOT / ".cache" / "tooz.log"
_PACKAGES = (
    "tooz",
    "etcd3gw",
    "fixtures",
    "oslo.utils",
    "pymemcache",
    "redis",
    "sysv_ipc",
    "testtools",
)
_SUITE = "tooz.tests.test_coordination"
_SUITE_SECONDS = 600.0
_VERDICT = re.compile(r"(test\w+)[^.\n]* \.\.\. (ok|skipped .*|FAIL|ERROR)$", re.MULTILINE)


def main() -> int:
    """Run it with each etcd, print what passed, and return 1 where a test failed."""
    python = _environment()
    failed = False
    _LOG.write_text("")
    try:
        with interruptible():
            for etcd in etcds_in_use():
                failed = _with(etcd, python) or failed
    except KeyboardInterrupt:
        return INTERRUPTED
    print(f"tooz: all it said: {_LOG.relative_to(_ROOT)}")
    return 1 if failed else 0


def _environment() -> Path:
    """Return the Python that has tooz."""
    python = _ENVIRONMENT / "bin" / "python"
    if not python.exists():
        subprocess.run([sys.executable, "-m", "venv", str(_ENVIRONMENT)], check=True)
        install = [str(python), "-m", "pip", "install", "--quiet", *_PACKAGES]
        subprocess.run(install, check=True)
    return python


def _with(etcd: Etcd, python: Path) -> bool:
    with temporary_folder() as folder, Cluster(folder, etcd.etcd) as cluster:
        server = cluster.grow(3)[1]
        return _run(python, server, f"etcd {etcd.version_text}, a voter of three")


def _run(python: Path, server: Server, what: str) -> bool:
    """Run the suite against one server, say what came of it, and return whether it failed."""
    with _on_tcp(Path(server.layout.etcd_socket)) as port:
        url = f"etcd3+http://127.0.0.1:{port}?api_version=v3"
        done = subprocess.run(
            [str(python), "-m", "unittest", "-v", _SUITE],
            env={**os.environ, "TOOZ_TEST_URL": url},
            cwd=_ENVIRONMENT,
            capture_output=True,
            text=True,
            timeout=_SUITE_SECONDS,
            check=False,
        )
    with _LOG.open("a") as log:
        log.write(f"==== {what}\n{done.stdout}{done.stderr}\n")
    verdicts = _VERDICT.findall(done.stderr)
    passed = sum(verdict == "ok" for _, verdict in verdicts)
    skipped = sum(verdict.startswith("skipped") for _, verdict in verdicts)
    bad = [name for name, verdict in verdicts if verdict in ("FAIL", "ERROR")]
    print(f"tooz: {what}: {passed} passed, {skipped} skipped, {len(bad)} failed {' '.join(bad)}")
    return done.returncode != 0 or not passed


@contextmanager
def _on_tcp(path: Path) -> Iterator[int]:
    """Listen on a free port of loopback and pass all bytes to and from a unix socket."""
    loop = asyncio.new_event_loop()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            far_reader, far_writer = await asyncio.open_unix_connection(str(path))
        except OSError:
            writer.close()
            return
        ways = (_copy(reader, far_writer), _copy(far_reader, writer))
        await asyncio.gather(*ways, return_exceptions=True)

    server = loop.run_until_complete(asyncio.start_server(serve, "127.0.0.1", 0))
    thread = threading.Thread(target=loop.run_forever, daemon=True)
    thread.start()
    try:
        yield int(server.sockets[0].getsockname()[1])
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        server.close()
        for task in asyncio.all_tasks(loop):
            task.cancel()
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()


async def _copy(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(65536):
            writer.write(data)
            await writer.drain()
    writer.close()


if __name__ == "__main__":
    sys.exit(main())
