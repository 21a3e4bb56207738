"""The commands: what goes to the daemon, what is printed, and the exit status."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from dataclasses import fields
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.cli import main as module
from collective.cli import output, quick
from collective.cli.main import main
from collective.cli.parser import make_parser
from collective.daemon.listeners import control_api
from collective.daemon.listeners.commands.context import request_of
from collective.errors import AccessError, InputError, QuorumError
from collective.protocol.control import Request

TOKEN = (
    "bWd0MkA+BNQ6XAxMXlqJJa+EQRlihL/k9xCXnasgSQXZr989Pa1/ln7G3e1Ncxx6BMzMqqreHJVkPr2FrzjNit/UgHlg"
)
Lines = list[tuple[str, str]]
_PROJECT = Path(module.__file__).parents[2]


class Daemon:
    """In the place of the daemon: keeps what it was asked, answers what it was told to."""

    def __init__(self) -> None:
        self.answer: Lines = [("x", "0")]
        self.asked: list[tuple[str, str, bytes]] = []

    def stream(self, _path: str, method: str, route: str, body: bytes, *_: float) -> Lines:
        """Answer."""
        self.asked.append((method, route, body))
        return self.answer


@pytest.fixture
def daemon(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Daemon:
    """A daemon that is asked by the commands."""
    made = Daemon()
    monkeypatch.setattr(module, "stream", made.stream)
    monkeypatch.setenv("COLLECTIVE_ROOT", str(tmp_path))
    return made


COMMANDS: list[tuple[str, str, str, dict[str, Any] | None]] = [
    ("gencert", "POST", "/v1/gencert", {}),
    ("show", "GET", "/v1/show", None),
    ("show --json", "GET", "/v1/show?json=1", None),
    ("show --names", "GET", "/v1/show/names", None),
    ("show --json --names", "GET", "/v1/show/names?json=1", None),
    ("invite mgt2", "POST", "/v1/invite?server=mgt2", None),
    (
        "invite mgt2 --ttl 1h30m",
        "POST",
        "/v1/invite",
        {"server": "mgt2", "nonvoting": False, "ttl": 5400.0},
    ),
    ("invite -n mgt2", "POST", "/v1/invite", {"server": "mgt2", "nonvoting": True}),
    ("delete", "POST", "/v1/delete", {"server": None, "force": False}),
    (
        "delete mgt3 --force",
        "POST",
        "/v1/delete",
        {"server": "mgt3", "force": True},
    ),
    (f"join mgt1 -i {TOKEN}", "POST", "/v1/join", {"server": "mgt1", "token": TOKEN}),
    (
        "delete mgt3 --dry-run --json",
        "POST",
        "/v1/delete",
        {"server": "mgt3", "force": False, "dry_run": True, "json": True},
    ),
    ("invite --list --json", "POST", "/v1/invite/list", {"json": True}),
    (
        "invite --revoke mgt2",
        "POST",
        "/v1/invite/revoke",
        {"server": "mgt2", "nonvoting": False},
    ),
    (
        "invite --replace mgt2 --ttl 1h",
        "POST",
        "/v1/invite/replace",
        {"server": "mgt2", "nonvoting": False, "ttl": 3600.0},
    ),
    (
        "join --check mgt1",
        "POST",
        "/v1/join/check",
        {"server": "mgt1", "token": None},
    ),
    (
        f"join --dry-run mgt1 -i {TOKEN}",
        "POST",
        "/v1/join/dry-run",
        {"server": "mgt1", "token": TOKEN},
    ),
    ("join --abort --json", "POST", "/v1/join/abort", {"json": True}),
    ("join --abort --force", "POST", "/v1/join/abort", {"force": True}),
    ("invite --list --dry-run", "POST", "/v1/invite/list", {"dry_run": True}),
    (
        "invite --dry-run mgt2",
        "POST",
        "/v1/invite",
        {"server": "mgt2", "nonvoting": False, "dry_run": True},
    ),
    (
        f"join --force mgt1 -i {TOKEN}",
        "POST",
        "/v1/join",
        {"server": "mgt1", "token": TOKEN, "force": True},
    ),
    (
        "promote mgt3 --dry-run --json",
        "POST",
        "/v1/promote",
        {"server": "mgt3", "dry_run": True, "json": True},
    ),
    ("demote mgt3", "POST", "/v1/demote", {"server": "mgt3"}),
    ("readdress", "POST", "/v1/readdress", {}),
    ("readdress --json", "POST", "/v1/readdress", {"json": True}),
    ("readdress --address fd00::1", "POST", "/v1/readdress", {"address": "fd00::1"}),
    (
        "readdress --member mgt2=10.0.0.2 --member mgt3=10.0.0.3",
        "POST",
        "/v1/readdress",
        {"members": {"mgt2": "10.0.0.2", "mgt3": "10.0.0.3"}},
    ),
]


@pytest.mark.parametrize(("line", "method", "route", "body"), COMMANDS)
def test_command_asks_the_daemon_once(
    daemon: Daemon, line: str, method: str, route: str, body: dict[str, Any] | None
) -> None:
    """Each line becomes one request."""
    assert main(line.split()) == 0
    ((asked_method, asked_route, asked_body),) = daemon.asked
    assert (asked_method, asked_route) == (method, route)
    assert asked_body == b"" if body is None else json.loads(asked_body) == {"format": 1, **body}


def test_commands_send_what_the_daemon_takes_and_all_of_it(daemon: Daemon) -> None:
    """None is refused there, and each option of a request is sent by one command at least."""
    sent: dict[type[Request], set[str]] = {}
    for line, method, route, _ in COMMANDS:
        main(line.split())
        path, _, query = route.partition("?")
        kind = request_of(control_api._ROUTES[method, path].run)
        body = daemon.asked[-1][2]
        raw = json.loads(body) if body else control_api._in_route(dict(parse_qsl(query)))
        kind.from_client(raw)
        sent.setdefault(kind, set()).update(raw.keys() - {"format", "json"})
    kinds: list[type[Request]] = [Request, *Request.__subclasses__()]
    assert sent == {kind: {field.name for field in fields(kind)} - {"json"} for kind in kinds}


def test_result_alone_is_on_standard_output(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    """So that ``$(collective invite mgt2)`` is the token."""
    daemon.answer = [("s", "dial: mgt1"), ("n", "a remark"), ("o", TOKEN), ("x", "0")]
    assert main(["invite", "mgt2"]) == 0
    assert capsys.readouterr() == (
        f"{TOKEN}\n",
        "collective: dial: mgt1\ncollective: a remark\n",
    )


@pytest.mark.parametrize("status", [0, 1, 3, 9, 11])
def test_exit_status_is_what_the_daemon_says(daemon: Daemon, status: int) -> None:
    """It knows the class of the error."""
    daemon.answer = [("n", "error: no"), ("x", str(status))]
    assert main(["show"]) == status


@pytest.mark.parametrize("answer", [[], [("o", "half")], [("s", "dial")], [("?", "of later")]])
def test_answer_without_an_exit_status_is_a_failure(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], answer: Lines
) -> None:
    """A daemon that was killed on the way never looks like success."""
    daemon.answer = answer
    assert main(["gencert"]) == 5
    assert "broke off without an answer" in capsys.readouterr().err


def test_line_of_an_unknown_kind_is_passed_over(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    """A later daemon may say more than this command knows."""
    daemon.answer = [("z", "?"), ("o", "yes"), ("x", "0")]
    assert main(["show"]) == 0
    assert capsys.readouterr() == ("yes\n", "")


def test_error_before_the_request_has_its_own_status(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    """A bad duration is an input error; the daemon is not asked."""
    assert main(["invite", "mgt2", "--ttl", "soon"]) == InputError.exit_code
    out, err = capsys.readouterr()
    assert (out, daemon.asked) == ("", [])
    assert err.startswith("collective: error: expected a duration")


@pytest.mark.parametrize(
    "line",
    [
        "invite",
        "invite --revoke",
        "invite --list mgt2",
        "join",
        "join --check",
        "join --abort mgt1",
    ],
)
def test_line_with_a_server_too_few_or_too_many_asks_nothing(
    daemon: Daemon, capsys: pytest.CaptureFixture[str], line: str
) -> None:
    """It is an input error like any other."""
    assert main(line.split()) == InputError.exit_code
    out, err = capsys.readouterr()
    assert (out, daemon.asked) == ("", [])
    assert err.startswith("collective: error: ")


def test_error_before_the_request_is_json_too_where_that_is_asked_for(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    """One object on standard output, the lines for people beside it, the same status."""
    assert main(["invite", "mgt2", "--json", "--ttl", "soon"]) == InputError.exit_code
    out, err = capsys.readouterr()
    told = json.loads(out)
    assert told["error"]["code"] == "input"
    assert err.startswith(f"collective: error: {told['error']['message']}")
    assert daemon.asked == []


@pytest.mark.parametrize(
    ("line", "code"),
    [
        ("show --json", "daemon"),
        ("show --json --names", "daemon"),
        ("show --zzz --json", "input"),
        ("zzz --json", "input"),
    ],
)
def test_every_error_is_json_where_that_is_asked_for(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    line: str,
    code: str,
) -> None:
    """One object, whatever is wrong: no daemon, or the line itself."""
    monkeypatch.setenv("COLLECTIVE_ROOT", str(tmp_path))
    status = main(line.split())
    out, err = capsys.readouterr()
    told = json.loads(out)["error"]
    assert (told["code"], status) == (code, {"daemon": 5, "input": 2}[code])
    assert f"collective: error: {told['message']}" in err


def test_bad_root_is_an_input_error(daemon: Daemon, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is found before anything is asked."""
    monkeypatch.setenv("COLLECTIVE_ROOT", "relative")
    assert main(["show"]) == InputError.exit_code
    assert daemon.asked == []


def test_interruption_says_that_the_work_goes_on(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """130, as a shell would say, and no traceback."""

    def interrupted(*_: object) -> Lines:
        raise KeyboardInterrupt

    monkeypatch.setattr(module, "stream", interrupted)
    assert main(["show"]) == 130
    assert "goes on in collectived" in capsys.readouterr().err


def joined_with(daemon: Daemon) -> object:
    return json.loads(daemon.asked[-1][2])["token"]


@pytest.mark.parametrize("words", [[], ["-i", "-"]])
def test_token_is_read_from_standard_input(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, words: list[str]
) -> None:
    """One line of it, where that is no terminal, or where it is asked for."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(f"  {TOKEN}\nmore\n"))
    assert main(["join", "mgt1", *words]) == 0
    assert joined_with(daemon) == TOKEN


def test_token_is_read_from_a_file(
    daemon: Daemon, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """And is printed nowhere."""
    (tmp_path / "token").write_text(f"{TOKEN}\n")
    assert main(["join", "mgt1", "-i", f"@{tmp_path}/token"]) == 0
    assert joined_with(daemon) == TOKEN
    assert capsys.readouterr() == ("", "")


@pytest.mark.peers(19)
def test_token_on_the_command_line_is_warned_about(
    daemon: Daemon, capsys: pytest.CaptureFixture[str]
) -> None:
    """It works, as in the manual, and the warning does not repeat it."""
    assert main(["join", "mgt1", "-i", TOKEN]) == 0
    assert joined_with(daemon) == TOKEN
    err = capsys.readouterr().err
    assert "other users can see" in err
    assert TOKEN not in err


def test_token_is_asked_for_unseen_on_a_terminal(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The question goes to the terminal, wherever standard error goes."""
    terminal = io.StringIO("never read")
    terminal.isatty = lambda: True  # type: ignore[method-assign]
    monkeypatch.setattr(sys, "stdin", terminal)
    monkeypatch.setattr("getpass.getpass", lambda _prompt: TOKEN)
    assert main(["join", "mgt1"]) == 0
    assert joined_with(daemon) == TOKEN


@pytest.mark.parametrize("given", ["", "\n", "  \n", "\n" + TOKEN])
def test_empty_token_is_refused_before_anything_is_asked(
    daemon: Daemon, monkeypatch: pytest.MonkeyPatch, given: str
) -> None:
    """An empty line is not sent to anybody."""
    monkeypatch.setattr(sys, "stdin", io.StringIO(given))
    assert main(["join", "mgt1"]) == InputError.exit_code
    assert daemon.asked == []


def test_token_file_that_cannot_be_read_is_told(
    daemon: Daemon, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Missing, a folder, or without the right."""
    assert main(["join", "mgt1", "-i", f"@{tmp_path}/none"]) == InputError.exit_code
    assert main(["join", "mgt1", "-i", f"@{tmp_path}"]) == InputError.exit_code

    def closed(*_: object, **__: object) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("builtins.open", closed)
    assert main(["join", "mgt1", "-i", "@t"]) == AccessError.exit_code
    assert daemon.asked == []


LINES = [
    ["show"],
    ["show", "--json"],
    ["show", "--names"],
    ["invite", "mgt2"],
    ["invite", "MGT-2.example.org"],
    ["gencert"],
    ["delete"],
    ["delete", "mgt2"],
    ["invite", "-n", "mgt2"],
    ["invite", "--list"],
    ["join", "mgt1"],
]


@pytest.mark.parametrize("line", LINES, ids=" ".join)
def test_quick_reading_is_what_argparse_reads(line: list[str]) -> None:
    """What it takes on itself, it reads the same; the rest it leaves alone."""
    options = quick.parse(line)
    if options is not None:
        assert vars(options) == vars(make_parser().parse_args(line))


WORDS = st.one_of(
    st.sampled_from(
        [
            "show",
            "invite",
            "join",
            "delete",
            "gencert",
            "--json",
            "--js",
            "--ttl",
            "-n",
            "-i",
            "-",
            "--",
            "--help",
            "mgt2",
            "-1",
            "1",
            ".",
            "a.b",
        ]
    ),
    st.text(max_size=6),
    st.text("aZ9.-_@=", max_size=6),
)
ARGUMENTS = st.one_of(
    st.lists(WORDS, max_size=4),
    st.tuples(st.sampled_from(["show", "invite"]), WORDS).map(list),
)


@given(ARGUMENTS)
def test_whatever_is_read_quickly_argparse_reads_the_same(line: list[str]) -> None:
    """For any words: the same options, or it is left to argparse."""
    options = quick.parse(line)
    if options is not None:
        assert vars(options) == vars(make_parser().parse_args(line))


@pytest.mark.parametrize(
    "line",
    [
        [],
        ["show", "--js"],
        ["show", "x"],
        ["invite"],
        ["invite", ""],
        ["invite", "-n"],
        ["invite", "--help"],
        ["invite", "--"],
        ["invite", "a b"],
        ["invite", "a&x=1"],
        ["invite", "a%41"],
        ["invite", "a/b"],
        ["invite", "mgt²"],
        ["invite", "a\r\nb"],
        ["delete", "mgt2"],
        ["--version"],
    ],
)
def test_line_that_is_not_plain_is_left_to_argparse(line: list[str]) -> None:
    """Above all a name that would change the request that it stands in."""
    assert quick.parse(line) is None


def test_name_in_a_route_is_harmless() -> None:
    """Of all single characters only those of host names get through."""
    passed = {chr(c) for c in range(0x3000) if quick.parse(["invite", chr(c)]) is not None}
    assert passed == set("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789")


class Terminal(io.StringIO):
    """Standard error on a terminal."""

    def isatty(self) -> bool:
        """Be one."""
        return True


def test_progress_is_one_live_line_on_a_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is cleared in the end, so that only the result is left."""
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = output.Progress()
    progress.step("dial: mgt1")
    progress.step("x" * 500)
    progress.end()
    progress.end()
    shown = terminal.getvalue()
    assert "\n" not in shown
    assert shown.startswith("\r\x1b[Kcollective: dial: mgt1\r\x1b[K")
    assert shown.endswith("x\r\x1b[K")
    assert shown.count("\x1b[K") == 3
    assert "x" * 201 not in shown


def test_error_is_printed_with_its_hint(capsys: pytest.CaptureFixture[str]) -> None:
    """In the form that is the same for all commands."""
    output.complain(QuorumError("no quorum", "start mgt2"))
    output.complain(QuorumError("no quorum"))
    assert capsys.readouterr().err.splitlines() == [
        "collective: error: no quorum",
        "collective: hint: start mgt2",
        "collective: error: no quorum",
    ]


HEAVY = {
    "argparse",
    "asyncio",
    "cryptography",
    "dataclasses",
    "email",
    "enum",
    "etcd3gw",
    "h11",
    "http",
    "inspect",
    "ipaddress",
    "json",
    "logging",
    "pathlib",
    "re",
    "requests",
    "selectors",
    "shutil",
    "socket",
    "ssl",
    "subprocess",
    "tenacity",
    "threading",
    "typing",
    "urllib",
}
HEAVY_FOR_ALL = HEAVY - {"argparse", "json", "re", "enum"}


@pytest.mark.parametrize(
    ("line", "absent"),
    [
        ("show", HEAVY),
        ("show --names", HEAVY),
        ("show --json", HEAVY_FOR_ALL),  # of an error it makes JSON itself
        ("invite mgt2", HEAVY),
        ("gencert", HEAVY_FOR_ALL),
        ("delete mgt2", HEAVY_FOR_ALL),
        ("join mgt1 -i x", HEAVY_FOR_ALL),
        ("invite mgt2 --ttl 1h", HEAVY_FOR_ALL),
    ],
)
def test_command_imports_nothing_heavy(tmp_path: Path, line: str, absent: set[str]) -> None:
    """Run to its end, which here is a daemon that does not run: start-up time is a feature."""
    code = (
        "import sys; from collective.cli.main import main\n"
        "status = main(sys.argv[1:]); print('#', status, *sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-S", "-c", code, *line.split()],
        capture_output=True,
        text=True,
        check=True,
        env={"COLLECTIVE_ROOT": str(tmp_path), "PYTHONPATH": str(_PROJECT)},
    )
    status, *modules = done.stdout.rpartition("#")[2].split()
    assert (status, "does not run here" in done.stderr) == ("5", True)
    loaded = {name.partition(".")[0] for name in modules}
    assert "collective" in loaded
    assert not loaded & absent
