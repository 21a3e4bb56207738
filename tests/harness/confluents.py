"""Confluents without their doors, in processes of their own: see ``tests.confluent.driver``."""

from __future__ import annotations

import json
import os
import queue
import subprocess
import threading
from collections.abc import Sequence
from itertools import count
from pathlib import Path
from time import monotonic
from typing import Any

from tests.harness.server import CHECKOUT

DRIVER = CHECKOUT / "tests" / "confluent" / "driver.py"
SECONDS = 60.0


class ConfluentError(Exception):
    """What Confluent raised; ``kind`` is the name of its class."""

    def __init__(self, kind: str, text: str) -> None:
        super().__init__(text)
        self.kind = kind


class Confluent:
    """One of them."""

    def __init__(self, python: str, library: Path, name: str, folder: Path, root: str) -> None:
        """Prepare.

        Args:
            python: its interpreter.
            library: the folder that holds the package confluent.
            name: of the server.
            folder: for its cfg folder.
            root: of the daemon beside it, "-" for a Confluent that is alone.
        """
        self.name, self.cfg = name, folder / "cfg"
        self._command = [python, str(DRIVER), name, str(self.cfg), root]
        self._environment = {
            "PYTHONPATH": os.pathsep.join([str(library), str(CHECKOUT)]),
            "PATH": "/usr/bin:/bin",
        }
        self._log = folder / "log"
        self._numbers = count()
        self._waiting: dict[Any, queue.Queue[dict[str, Any]]] = {}
        self._process: subprocess.Popen[str] | None = None

    def start(self, wait: bool = True) -> None:
        """Start it, and wait until it serves."""
        self.cfg.parent.mkdir(parents=True, exist_ok=True)
        self._waiting = {"ready": queue.Queue()}
        self._process = subprocess.Popen(
            self._command,
            env=self._environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._log.open("a"),
            text=True,
        )
        threading.Thread(target=self._listen, args=(self._process,), daemon=True).start()
        if wait:
            self.wait_until_ready()

    @property
    def pid(self) -> int:
        """The id of its process, which runs."""
        assert self._process is not None
        return self._process.pid

    def wait_until_ready(self, seconds: float = SECONDS) -> None:
        """Wait until it serves."""
        try:
            told = self._waiting["ready"].get(timeout=seconds)
        except queue.Empty:
            told = {}
        assert "is" in told, f"{self.name} does not start:\n{self.log_text()}"

    def log_text(self) -> str:
        """Return what it has logged."""
        return self._log.read_text() if self._log.exists() else ""

    def send(self, what: str, *arguments: Any) -> int:
        """Have it do something; ``answer`` waits for it."""
        assert self._process is not None
        assert self._process.stdin is not None
        number = next(self._numbers)
        self._waiting[number] = queue.Queue()
        self._process.stdin.write(json.dumps([number, what, arguments]) + "\n")
        self._process.stdin.flush()
        return number

    def answer(self, number: int, seconds: float = SECONDS) -> Any:
        """Return what it answers.

        Raises:
            ConfluentError: it raised.
        """
        try:
            told = self._waiting[number].get(timeout=seconds)
        except queue.Empty:
            raise AssertionError(f"{self.name} gave no answer:\n{self.log_text()}") from None
        if "error" in told:
            raise ConfluentError(*told["error"])
        return told["is"]

    def ask(self, what: str, *arguments: Any) -> Any:
        """Have it do something, and return what it answers."""
        return self.answer(self.send(what, *arguments))

    def mutate(self, name: str, *arguments: Any) -> Any:
        """Have it make a change; again, where it had no quorum and so changed nothing."""
        deadline = monotonic() + SECONDS
        while True:
            try:
                return self.ask("mutate", name, *arguments)
            except ConfluentError as error:
                if error.kind != "DegradedCollective" or monotonic() > deadline:
                    raise

    def dump(self) -> dict[str, Any]:
        """Return its configuration, as it dumps it."""
        found: dict[str, Any] = json.loads(self.ask("dump"))
        return found

    def import_folder(self, *words: str) -> str:
        """Make its configuration, or what is named, that of the collective; it does not run."""
        done = self.try_import(*words)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def try_import(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Type the command ``import``; nobody sits before it."""
        return subprocess.run(
            [*self._command, "import", *words],
            env=self._environment,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=SECONDS,
            check=False,
        )

    def kill(self) -> None:
        """Kill it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Have it end."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        process.stdin.close()
        try:
            process.wait(5.0)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _listen(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            number, told = json.loads(line)
            if number in self._waiting:
                self._waiting[number].put(told)


def stop_all(confluents: Sequence[Confluent]) -> None:
    """End all of them."""
    for each in confluents:
        each.kill()
