"""Standard input, output and error, in whatever state a caller has left them.

It formats nothing.

Invariants:
  * After ``repair`` descriptors 0 to 2 are taken: no socket and no file of ours gets their
    numbers, and is then written to as if it were a stream.
  * What cannot be written to standard output is an OutputError. What cannot be written to
    standard error is dropped: nobody is left to be told, and there is an exit status.
"""

from __future__ import annotations

import os
import sys

from collective.errors import OutputError

# Of a closed standard output whatever is written fails, as it would have; the others are empty.
_STREAMS = (("stdin", os.O_RDONLY), ("stdout", os.O_RDONLY), ("stderr", os.O_WRONLY))


def repair() -> None:
    """Have something in the place of each stream that was closed when Python started."""
    for name, flags in _STREAMS:
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, flags)  # the lowest that is free
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115


def check_output() -> None:
    """See whether standard output can be written to at all, before anything is done.

    A pipe whose reader is gone, and a file on a disk that is full, are found by writing alone.

    Raises:
        OutputError: it cannot.
    """
    try:
        os.write(1, b"")
    except OSError as error:
        raise OutputError(_cannot(error), "nothing was done") from error


def write(text: str) -> None:
    """Write to standard output, all of it and now.

    Raises:
        OutputError: it is closed, full, or nobody reads it any more.
    """
    try:
        try:
            sys.stdout.write(text)
        except UnicodeEncodeError as error:
            known = text.encode(error.encoding, "backslashreplace").decode(error.encoding)
            sys.stdout.write(known)
        sys.stdout.flush()
    except OSError as error:
        raise OutputError(_cannot(error)) from error


def after_parser(end: SystemExit) -> int:
    """Return the status of a line that argparse itself answers: with help, or as a bad one.

    Raises:
        OutputError: what it answers cannot be printed.
    """
    write("")
    return end.code if isinstance(end.code, int) else 0


def _cannot(error: OSError) -> str:
    return f"cannot write to standard output: {error.strerror}"


def tell(text: str) -> None:
    """Write to standard error now, if that can be done."""
    try:
        sys.stderr.write(text)
        sys.stderr.flush()
    except OSError:
        pass


def settle() -> None:
    """Leave nothing for the end of Python, which would make an exit status of its own of it."""
    for name in ("stdout", "stderr"):
        try:
            getattr(sys, name).flush()
        except OSError:
            setattr(sys, name, None)
