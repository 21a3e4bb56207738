"""The run of all checks: what it counts as failed, and what it names as skipped."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tools import check


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


@pytest.mark.parametrize(("code", "passed"), [("", True), ("raise SystemExit(3)", False)])
def test_step_passes_only_with_status_0(code: str, passed: bool) -> None:
    """The exit status of a command decides."""
    assert check.step("a step", python(code)).passed is passed


def test_step_with_missing_program_fails(capfd: pytest.CaptureFixture[str]) -> None:
    """A tool that is not installed is a failed step, not a skipped one."""
    assert not check.step("a step", ["/nowhere/tool"]).passed
    assert "cannot run /nowhere/tool: No such file" in capfd.readouterr().out


def test_step_past_its_deadline_fails(capfd: pytest.CaptureFixture[str]) -> None:
    """A command that hangs is stopped, and the step has failed."""
    # A shell has jobs in the background ignore Ctrl-C, and their children with them.
    hangs = "import signal; signal.signal(signal.SIGINT, signal.SIG_DFL); signal.pause()"
    result = check.step("a step", python(hangs), seconds=2.0)
    assert not result.passed
    assert "stopped: not done after" in capfd.readouterr().out


def test_step_that_is_stopped_reaches_what_runs_below_it(tmp_path: Path) -> None:
    """Through a command that passes no signal on, as unshare does not: or hosts would stay up."""
    told = tmp_path / "told"
    below = f"""
import pathlib, signal, time
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    pathlib.Path({str(told)!r}).write_text("begun")
    time.sleep(60)
except KeyboardInterrupt:
    pathlib.Path({str(told)!r}).write_text("cleaned up")
"""
    deaf = f"""
import signal, subprocess, sys
signal.signal(signal.SIGINT, signal.SIG_IGN)
subprocess.run([sys.executable, "-c", {below!r}])
"""
    assert not check.step("a step", python(deaf), 5.0).passed
    assert told.read_text() == "cleaned up"


def test_quiet_step_with_a_warning_fails(capfd: pytest.CaptureFixture[str]) -> None:
    """man exits with 0 after a warning, so whatever it says on standard error counts."""
    code = "import sys; print('page'); print('a warning', file=sys.stderr)"
    assert not check.step("a step", python(code), quiet=True).passed
    out = capfd.readouterr().out
    assert "a warning" in out
    assert "\npage\n" not in out


def test_skipped_tests_are_named_with_their_reason(tmp_path: Path) -> None:
    """Tests that were skipped for one reason make one line; expected failures make none."""
    report = tmp_path / "report.xml"
    report.write_text(
        """<testsuites><testsuite>
        <testcase name="a"><skipped type="pytest.skip" message="not root"/></testcase>
        <testcase name="b"><skipped type="pytest.skip" message="not
          root"/></testcase>
        <testcase name="c"><skipped type="pytest.skip" message="no etcdctl"/></testcase>
        <testcase name="d"><skipped type="pytest.xfail" message="known"/></testcase>
        <testcase name="e"/>
        </testsuite></testsuites>"""
    )
    assert check.skipped_tests(report) == ["1 test: no etcdctl", "2 tests: not root"]


def test_missing_report_counts_as_all_tests_skipped(tmp_path: Path) -> None:
    """If pytest did not get to write its report, nobody knows what was tested."""
    assert check.skipped_tests(tmp_path / "none") == ["all tests: pytest wrote no report"]
