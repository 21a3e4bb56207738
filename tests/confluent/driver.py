"""A Confluent without its doors: its configuration on the collective, told what to do by lines.

It is run by Confluent's interpreter, with Confluent's library (or the stand-in) in the path. Each
line of standard input is a JSON list: an id, what to do, and its arguments. Each line of standard
output is an id and ``{"is": ...}`` or ``{"error": [class, text]}``.

    driver.py NAME CFG_FOLDER COLLECTIVE_ROOT
"""

from __future__ import annotations

import asyncio
import importlib
import inspect
import json
import logging
import os
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import Any

import confluent.collective.manager as manager
import confluent.config.configmanager as cfm

from confluent_collective import runtime
from confluent_collective.seam import Seam

NAME, FOLDER, ROOT = sys.argv[1], Path(sys.argv[2]), sys.argv[3]
HEARD: list[str] = []
KEPT: set[Any] = set()


def begin() -> runtime.ConfluentRuntime | None:
    """Read the files, and start on the collective, as Confluent's own main does."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    cfm.ConfigManager._cfgdir = str(FOLDER)
    made = None if ROOT == "-" else runtime.ConfluentRuntime(Seam(cfm, manager), ROOT)
    if made is not None:
        made.hook()
    cfm.get_myname = manager.get_myname = lambda: NAME
    manager.log.log = lambda entry, **_: print(entry, file=sys.stderr)
    cfm.logException = traceback.print_exc
    cfm.init()
    cfm.ConfigManager(None)
    if not cfm._masterkey:
        cfm.init_masterkey()
    if not cfm.get_global("confluent_uuid"):
        cfm.set_global("confluent_uuid", f"uuid of {NAME}")
    if made is None:
        return None
    manager.util.get_certificate_from_file = lambda _path: NAME.encode()
    manager.startup()
    return made


def mutate(name: str, *arguments: Any) -> Any:
    """Call one of Confluent's mutators."""
    return getattr(cfm.ConfigManager(None), name)(*arguments)


def attributes(nodes: list[str], names: list[str]) -> Any:
    """Return attributes, with secrets decrypted."""
    found = cfm.ConfigManager(None, decrypt=True).get_node_attributes(nodes, names)
    return json.loads(json.dumps(found, default=_text))


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)


def watch(nodes: list[str], names: list[str]) -> None:
    """Note changes of attributes, and of nodes."""

    def heard(nodeattribs: Any, configmanager: Any) -> None:
        HEARD.extend(f"{node} {name}" for node in nodeattribs for name in nodeattribs[node])

    def nodes_heard(added: Any, deleting: Any, renamed: Any, configmanager: Any) -> None:
        HEARD.extend(f"added {node}" for node in added)
        HEARD.extend(f"deleting {node}" for node in deleting)
        HEARD.extend(f"renamed {node}" for node in renamed)

    manager_of_watch = cfm.ConfigManager(None)
    manager_of_watch.watch_attributes(nodes, names, heard)
    manager_of_watch.watch_nodecollection(nodes_heard)


def dump() -> str:
    """Return what ``confluentdbutil dump`` writes of the configuration."""
    text: str = cfm.ConfigManager(None)._real_dump_to_json()
    return text


def dump_to(folder: str, password: str | None) -> Any:
    """Write what ``confluentdbutil dump`` writes (it reads the files, in a process of its own)."""
    if not hasattr(cfm, "conf"):
        return cfm.dump_db_to_directory(folder, password)
    Path(folder, "keys.json").write_text(cfm._dump_keys(password))
    Path(folder, "main.json").write_text(dump())
    return None


def has_quorum() -> bool:
    """Ask as Confluent does before each change."""
    try:
        cfm.check_quorum()
    except cfm.exc.DegradedCollective:
        return False
    return True


def nodedefine(names: list[str]) -> Any:
    """Define nodes, and say how long that took: wall time and processor time of this process."""
    begun, used = time.monotonic(), time.process_time()
    result = mutate("add_node_attributes", {name: {"groups": []} for name in names})

    def took() -> list[float]:
        return [time.monotonic() - begun, time.process_time() - used]

    if not inspect.isawaitable(result):
        return took()

    async def awaited() -> list[float]:
        await result
        return took()

    return awaited()


DOES: dict[str, Callable[..., Any]] = {
    "mutate": mutate,
    "attributes": attributes,
    "watch": watch,
    "heard": lambda: list(HEARD),
    "dump": dump,
    "quorum": has_quorum,
    "nodes": lambda: len(list(cfm.ConfigManager(None).list_nodes())),
    "members": lambda: dict(cfm._cfgstore.get("collective", {})),
    "key": lambda: cfm._masterkey.hex(),
    "collinfo": lambda: _collinfo(),
    "nodedefine": nodedefine,
    "dump_to": dump_to,
    "sync": lambda: cfm.ConfigManager.wait_for_sync(True),
}


def import_folder(words: list[str]) -> int:
    """Run the command ``import``, for the configuration of this process."""
    command: Any = importlib.import_module("confluent_collective.__main__")
    if not hasattr(cfm, "conf"):
        command.judged = lambda: None  # the stand-in is no release of Confluent
    cfm.ConfigManager._cfgdir, cfm.get_myname = str(FOLDER), lambda: NAME
    os.environ["COLLECTIVE_ROOT"] = ROOT
    return int(command.main(["import", *words]))


def _collinfo() -> dict[str, Any]:
    told: dict[str, Any] = {}
    manager.populate_collinfo(told)
    return told


def say(number: object, result: Any = None, error: BaseException | None = None) -> None:
    told = {"is": result} if error is None else {"error": [type(error).__name__, str(error)]}
    print(json.dumps([number, told]), flush=True)


async def serve() -> None:
    """Serve on asyncio."""
    loop = asyncio.get_running_loop()
    begin()
    say("ready", sys.version_info[:2])
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        number, what, arguments = json.loads(line)
        task = loop.create_task(answer(number, what, arguments))
        KEPT.add(task)
        task.add_done_callback(KEPT.discard)


async def answer(number: int, what: str, arguments: list[Any]) -> None:
    try:
        result = DOES[what](*arguments)
        say(number, await result if inspect.isawaitable(result) else result)
    except Exception as error:
        say(number, error=error)


def serve_eventlet() -> None:
    """Serve on eventlet."""
    eventlet: Any = importlib.import_module("eventlet")
    tpool: Any = importlib.import_module("eventlet.tpool")
    begin()
    say("ready", sys.version_info[:2])

    def answer_one(number: int, what: str, arguments: list[Any]) -> None:
        try:
            say(number, DOES[what](*arguments))
        except Exception as error:
            say(number, error=error)

    while line := tpool.execute(sys.stdin.readline):
        eventlet.spawn_n(answer_one, *json.loads(line))


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO, stream=sys.stderr)
    if len(sys.argv) > 4 and sys.argv[4] == "import":
        sys.exit(import_folder(sys.argv[5:] or [str(FOLDER)]))
    elif hasattr(cfm, "eventlet"):
        serve_eventlet()
    else:
        asyncio.run(serve())
