"""Type several command lines at once, and tell how each ended and how long it took.

``python -m tests.harness.at_once`` reads them as JSON from standard input and writes JSON. Each
runs in a process that is forked once all is imported: so the start of Python, which a busy machine
draws out where many start at once, is not in the times; nor is waiting for a processor.
"""

from __future__ import annotations

import getpass  # noqa: F401 - commands import it when they need it
import json
import os
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from collective.cli import parser  # noqa: F401 - as above
from collective.cli.main import main
from tests.harness.stopwatch import Stopwatch

_INTERNAL = 70


@dataclass(frozen=True)
class Ended:
    """How a command ended."""

    code: int
    seconds: float
    err: str


def _run(words: Sequence[str], given: Path, said: Path) -> int:
    """Run a command as the only one of this process."""
    os.dup2(os.open(given, os.O_RDONLY), 0)
    os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    os.dup2(os.open(said, os.O_WRONLY | os.O_CREAT), 2)
    code = main(list(words))
    sys.stderr.flush()
    return code


def type_all(lines: Sequence[Sequence[str]], text: str, folder: Path) -> list[Ended]:
    """Run them, each with the same standard input; the folder gets what each says."""
    given = folder / "given"
    given.write_text(text)
    begun: dict[int, int] = {}
    ended: dict[int, Ended] = {}
    for number, words in enumerate(lines):
        pid = os.fork()
        if pid == 0:
            code, watch = _INTERNAL, Stopwatch()
            try:
                code = _run(words, given, folder / str(number))
            finally:
                (folder / f"{number}.seconds").write_text(repr(watch.seconds))
                os._exit(code)
        begun[pid] = number
    while len(ended) < len(lines):
        pid, status = os.wait()
        number = begun[pid]
        err = (folder / str(number)).read_text(errors="replace")
        seconds = float((folder / f"{number}.seconds").read_text())
        ended[number] = Ended(os.waitstatus_to_exitcode(status), seconds, err)
    return [ended[number] for number in range(len(lines))]


def _main() -> None:
    asked = json.load(sys.stdin)
    with tempfile.TemporaryDirectory() as folder:
        ended = type_all(asked["lines"], asked["text"], Path(folder))
    print(json.dumps([asdict(each) for each in ended]))


if __name__ == "__main__":
    _main()
