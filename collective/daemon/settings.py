"""The settings of the daemon: what there is, what each defaults to, and how the file is read.

It does not look at the network, at the other files that a setting names, or at the environment.

Invariants:
  * A Settings that exists is valid, on its own and across its fields.
  * Every setting has a default that works; no file is as good as an empty one.
  * Defaults pass the same parsers as the file, and every refusal names file and line.
"""

from __future__ import annotations

import difflib
import re
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from collective.errors import InputError
from collective.files import read_private
from collective.model.duration import DURATION_FORM, parse_duration
from collective.model.listen import together
from collective.model.names import (
    is_ip_address,
    leads_elsewhere,
    name_of_host,
    parse_address,
    parse_new_name,
    parse_reachable_address,
)
from collective.policy.roles import ALLOWABLE

_COMMENT = re.compile(r"(?:^|\s)#.*")
_HOST_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
_MOST_SHOWN = 80

#: Raft needs several heartbeats in one election timeout; etcd itself refuses less than 5.
_HEARTBEATS_PER_ELECTION = 5


@dataclass(frozen=True)
class Settings:
    """What the operator has set, and the default for the rest.

    Attributes:
        name: the name of this server.
        address: how other servers reach this one; None to find it.
        listen: the addresses to listen on; None for ``address``, or all where that is None.
        port: the TCP port of the daemon.
        peer_port: the TCP port between etcd members.
        etcd: the etcd program; None to find it.
        allow_unsafe_etcd: whether an etcd version with a known loss of data may run.
        heartbeat_ms: the time between two heartbeats of the leader, in milliseconds.
        election_ms: the silence of a leader that starts an election, in milliseconds.
        hosts: a hosts(5) file to look names up in first, or None.
        invitation_ttl: how long an invitation is good, in seconds.
        learner_timeout: how long a learner may make no progress, in seconds; it has four
            times that for all of it.
        corruption_check: how often the data of all members is compared, in seconds.
        nonvoting_commands: commands about others that a server without a vote may have this one
            carry out.
        log_level: the least weighty log line to write: debug, info, warning or error.
    """

    name: str
    address: str | None
    listen: tuple[str, ...] | None
    port: int
    peer_port: int
    etcd: Path | None
    allow_unsafe_etcd: bool
    heartbeat_ms: int
    election_ms: int
    hosts: Path | None
    invitation_ttl: float
    learner_timeout: float
    corruption_check: float
    nonvoting_commands: tuple[str, ...]
    log_level: str


def load_settings(path: Path, named: bool = False, former: str | None = None) -> Settings:
    """Read the settings file; a missing one gives the defaults, unless somebody named it.

    Args:
        path: of the file.
        named: whether it is another than the usual one, so that it must be there.
        former: the name that this server has already, None for none.

    Raises:
        AccessError: the right to read it is missing.
        InputError: it is named and not there, not UTF-8, or a line of it is not valid.
        CollectiveError: it could not be read for another reason.
    """
    try:
        data = read_private(path)
    except FileNotFoundError:
        _check_missing(path, named)
        data = b""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        found = error.object[error.start]
        raise InputError(f"{path}:{line}: not UTF-8 text, found byte 0x{found:02x}") from error
    return parse_settings(text, str(path), former=former)


def _check_missing(path: Path, named: bool) -> None:
    """Refuse a file that is not there though somebody has said that it is.

    Raises:
        InputError: it is named, or it, or a folder above it, is a link that leads nowhere.
    """
    for link in (path, *path.parents):
        if link.is_symlink() and not link.exists():
            raise InputError(
                f"cannot read {path}: {link} is a link to {link.readlink()}, which is not there",
                "put the file there, or remove the link for the defaults",
            )
    if named:
        raise InputError(f"cannot read {path}: there is no such file")


def parse_settings(
    text: str,
    source: str = "settings",
    host_name: str | None = None,
    former: str | None = None,
) -> Settings:
    """Return the settings that a text makes.

    Args:
        text: lines of ``key = value``; a # at the start of a line or after a space begins a
            comment.
        source: the name of the file, for errors.
        host_name: the host name to take the default name from; None for that of this machine.
        former: the name that this server has already: it may be one that no new server gets.

    Raises:
        InputError: a line has no =, no known key, no valid value, or a key that came before; or
            two settings contradict each other.
    """
    values: dict[str, Any] = {
        row.name: None if row.default is None else row.kind.parse(row.default) for row in _TABLE
    }
    lines = _Lines(source, {})
    for number, raw in enumerate(text.split("\n"), 1):
        line = _COMMENT.sub("", raw).strip()
        if line:
            key, value = _split(line, lines, number)
            kept = key == "name" and value.lower() == former
            values[key] = former if kept else _value(_ROWS[key], value, lines.at(number))
            lines.of[key] = number
    if values["name"] is None:
        values["name"] = _default_name(host_name or socket.gethostname(), source, former)
    settings = Settings(**values)
    _check_across(settings, lines)
    return settings


def settings_help() -> list[tuple[str, str, str]]:
    """Return name, default and explanation of every setting, in the order of the manual."""
    return [(row.name, row.default or row.shown, row.help) for row in _TABLE]


@dataclass(frozen=True)
class _Lines:
    """Which line of which file set a key."""

    source: str
    of: dict[str, int]

    def at(self, number: int) -> str:
        return f"{self.source}:{number}"

    def where(self, *keys: str) -> str:
        """Return the place to blame: the first of the keys that the file sets."""
        numbers = [self.of[key] for key in keys if key in self.of]
        return self.at(numbers[0]) if numbers else self.source

    def shown(self, key: str, value: int) -> str:
        return f"{value}" if key in self.of else f"the default {value}"


def _split(line: str, lines: _Lines, number: int) -> tuple[str, str]:
    where = lines.at(number)
    key, equals, value = (part.strip() for part in line.partition("="))
    if not equals:
        raise InputError(f"{where}: expected 'key = value', found {line[:_MOST_SHOWN]!r}")
    if key not in _ROWS:
        raise InputError(f"{where}: unknown setting {key[:_MOST_SHOWN]!r}", _near(key))
    if key in lines.of:
        raise InputError(f"{where}: {key} is set twice, first on line {lines.of[key]}")
    return key, value


def _near(key: str) -> str:
    near = difflib.get_close_matches(key[:_MOST_SHOWN].lower().replace("-", "_"), _ROWS)
    if near:
        return f"did you mean {' or '.join(near)}?"
    return f"the settings are {', '.join(_ROWS)}"


def _value(row: _Row, text: str, where: str) -> Any:
    if not text:
        raise InputError(f"{where}: {row.name} has no value", "leave the line out for the default")
    try:
        return row.kind.parse(text)
    except ValueError:
        found = repr(text[:_MOST_SHOWN])
        raise InputError(f"{where}: {row.name} must be {row.kind.must}, found {found}") from None
    except InputError as error:
        raise InputError(f"{where}: {row.name}: {error.message}", error.hint) from error


def _default_name(host_name: str, source: str, former: str | None) -> str:
    if former is not None and host_name.split(".")[0].lower() == former:
        return former
    try:
        return name_of_host(host_name)
    except InputError as error:
        message = f"the host name {host_name[:_MOST_SHOWN]!r} makes no server name"
        raise InputError(
            message, f"set name in {source}; {error.hint or error.message}"
        ) from error


def _check_across(settings: Settings, lines: _Lines) -> None:
    heartbeat, election = settings.heartbeat_ms, settings.election_ms
    if election < _HEARTBEATS_PER_ELECTION * heartbeat:
        raise InputError(
            f"{lines.where('election_ms', 'heartbeat_ms')}: election_ms must be at least "
            f"{_HEARTBEATS_PER_ELECTION} times heartbeat_ms "
            f"({lines.shown('heartbeat_ms', heartbeat)}), "
            f"found {lines.shown('election_ms', election)}",
            f"set election_ms to {_HEARTBEATS_PER_ELECTION * heartbeat} or more",
        )
    if settings.port == settings.peer_port:
        raise InputError(
            f"{lines.where('peer_port', 'port')}: peer_port and port must differ, "
            f"both are {settings.port}"
        )


@dataclass(frozen=True)
class _Kind:
    """What a value must be.

    Attributes:
        must: the end of the sentence "port must be ...".
        parse: turns the text into the value, or raises ValueError; an InputError says more than
            ``must`` does.
    """

    must: str
    parse: Callable[[str], object]


def _whole_number(low: int, high: int) -> _Kind:
    def parse(text: str) -> int:
        if not (text.isascii() and text.isdigit() and len(text) <= 9 and low <= int(text) <= high):
            raise ValueError
        return int(text)

    return _Kind(f"a whole number from {low} to {high}", parse)


def _duration(low: str, high: str) -> _Kind:
    def parse(text: str) -> float:
        try:
            seconds = parse_duration(text)
        except InputError as error:
            raise ValueError from error
        if not parse_duration(low) <= seconds <= parse_duration(high):
            raise ValueError
        return seconds

    return _Kind(f"{DURATION_FORM}, from {low} to {high}", parse)


def _one_of(choices: dict[str, object]) -> _Kind:
    def parse(text: str) -> object:
        if text not in choices:
            raise ValueError
        return choices[text]

    *others, last = choices
    return _Kind(f"{', '.join(others)} or {last}", parse)


def _some_of(choices: Sequence[str]) -> _Kind:
    """Return the kind of a list of names, of which ``none`` stands for the empty one."""

    def parse(text: str) -> tuple[str, ...]:
        names = () if text == "none" else tuple(part.strip() for part in text.split(","))
        if len(set(names)) < len(names) or not set(names) <= set(choices):
            raise ValueError
        return names

    return _Kind(f"none, or some of {', '.join(choices)} with commas between them", parse)


def _absolute_path(text: str) -> Path:
    if not text.startswith("/") or "\0" in text:
        raise ValueError
    return Path(text)


def _ip_addresses(text: str) -> tuple[str, ...]:
    parts = [part.strip() for part in text.split(",")]
    if not all(map(is_ip_address, parts)):
        raise ValueError
    addresses = tuple(map(parse_address, parts))
    if len(set(addresses)) < len(addresses):
        raise ValueError
    enough = together(addresses)
    if len(enough) < len(addresses):
        raise InputError(
            f"{enough[0]} takes the others as well, and the kernel gives no address twice",
            f"write 'listen = {', '.join(enough)}'",
        )
    return addresses


def _reachable(text: str) -> str:
    return parse_reachable_address(text) if is_ip_address(text) else _host_name(text)


def _host_name(text: str) -> str:
    labels = text.split(".")
    # A last label of digits would be a mistyped IPv4 address (RFC 1123, section 2.1).
    if leads_elsewhere(labels[-1].lower()) or len(text) > 253:
        raise ValueError
    if not all(map(_HOST_LABEL.fullmatch, labels)):
        raise ValueError
    return text.lower()


_PORT = _whole_number(1, 65535)
_PATH = _Kind("an absolute path", _absolute_path)


@dataclass(frozen=True)
class _Row:
    """One setting.

    Attributes:
        default: the text that gives the default, or None where the default is no value.
        shown: what the manual says instead of a default that is None.
    """

    name: str
    kind: _Kind
    default: str | None
    help: str
    shown: str = ""


_TABLE = (
    _Row(
        "name",
        _Kind("a server name", parse_new_name),
        None,
        "The name of this server in the collective; not localhost, and not a number, which would "
        "lead other servers elsewhere.",
        "the short host name",
    ),
    _Row(
        "address",
        _Kind("an IP address or a host name that other servers can reach", _reachable),
        None,
        "The IP address or host name under which other servers reach this one. A name that is "
        "127.0.1.1 alone here, as Debian's installer writes it, says nothing.",
        "found by itself",
    ),
    _Row(
        "listen",
        _Kind("IP addresses, each once, with commas between them", _ip_addresses),
        None,
        "The IP addresses to listen on, with commas between them, none of which takes another one "
        "in as 0.0.0.0 and :: do.",
        "the address where it is set, else all",
    ),
    _Row("port", _PORT, "13002", "The TCP port of the daemon."),
    _Row("peer_port", _PORT, "13003", "The TCP port between etcd members."),
    _Row("etcd", _PATH, None, "The path of the etcd program.", "found by itself"),
    _Row(
        "allow_unsafe_etcd",
        _one_of({"yes": True, "no": False}),
        "no",
        "Whether to run a version of etcd that is known to lose data.",
    ),
    _Row(
        "heartbeat_ms",
        _whole_number(10, 1000),
        "50",
        "The time between two heartbeats of the leader, in milliseconds.",
    ),
    _Row(
        "election_ms",
        _whole_number(100, 50000),
        "450",
        "How long the leader may be silent before an election, in milliseconds; "
        f"at least {_HEARTBEATS_PER_ELECTION} times heartbeat_ms.",
    ),
    _Row(
        "hosts",
        _PATH,
        None,
        "The path of a file in the form of hosts(5) that is looked at before the resolver of the "
        "system.",
        "none",
    ),
    _Row(
        "invitation_ttl",
        _duration("10s", "30d"),
        "1h",
        "How long an invitation is good where the command does not say.",
    ),
    _Row(
        "learner_timeout",
        _duration("1s", "1d"),
        "5m",
        "How long a new member may make no progress before it is removed again.",
    ),
    _Row(
        "corruption_check",
        _duration("1s", "30d"),
        "4h",
        "How often the leader compares the data of all members.",
    ),
    _Row(
        "nonvoting_commands",
        _some_of(ALLOWABLE),
        "none",
        f"Commands about other servers ({', '.join(ALLOWABLE)}, with commas between them) that a "
        "server without a vote may have this one carry out. Set it on every voter alike.",
    ),
    _Row(
        "log_level",
        _one_of({level: level for level in ("debug", "info", "warning", "error")}),
        "info",
        "The least weighty lines to log: debug, info, warning or error.",
    ),
)
_ROWS = {row.name: row for row in _TABLE}
