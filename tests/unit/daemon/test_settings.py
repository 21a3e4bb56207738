"""Tests of collective.daemon.settings."""

from __future__ import annotations

import dataclasses
import os
import socket
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.daemon.settings import Settings, load_settings, parse_settings, settings_help
from collective.errors import AccessError, CollectiveError, InputError

NOBODY = 65534
SOME_COMMANDS = "none, or some of invite, delete, promote, demote with commas between them"
DEFAULTS = Settings(
    name="mgt1",
    address=None,
    listen=None,
    port=13002,
    peer_port=13003,
    etcd=None,
    allow_unsafe_etcd=False,
    heartbeat_ms=50,
    election_ms=450,
    hosts=None,
    invitation_ttl=3600.0,
    learner_timeout=300.0,
    corruption_check=14400.0,
    nonvoting_commands=(),
    log_level="info",
)


def parse(text: str) -> Settings:
    """Parse a text as the file c.conf on the host mgt1."""
    return parse_settings(text, "c.conf", "mgt1.example.com")


def refusal(text: str) -> InputError:
    """Return the error that a text gives."""
    with pytest.raises(InputError) as caught:
        parse(text)
    return caught.value


@pytest.mark.parametrize(
    "text", ["", "\n\n", "# port = 1\n", "  \t# x\r\n", "# a\u2028port = 1", "# a\x0cport = 1"]
)
def test_text_that_sets_nothing_gives_the_defaults(text: str) -> None:
    """Blank lines and comments change nothing."""
    assert parse(text) == DEFAULTS


@pytest.mark.parametrize(
    ("line", "key", "value"),
    [
        ("name = MGT2", "name", "mgt2"),
        ("address = 10.0.0.1", "address", "10.0.0.1"),
        ("address = 2001:DB8::0:1", "address", "2001:db8::1"),
        ("address = Mgt1.Example.com", "address", "mgt1.example.com"),
        ("address = 10-0-0-1.example", "address", "10-0-0-1.example"),
        ("listen = 127.0.0.1", "listen", ("127.0.0.1",)),
        ("listen = 10.0.0.1 ,::1", "listen", ("10.0.0.1", "::1")),
        ("listen = 0.0.0.0", "listen", ("0.0.0.0",)),
        ("port = 1", "port", 1),
        ("port=65535", "port", 65535),
        ("\tpeer_port\t=\t1\r", "peer_port", 1),
        ("etcd = /opt/my etcd/etcd", "etcd", Path("/opt/my etcd/etcd")),
        ("etcd = /opt/a=b#c", "etcd", Path("/opt/a=b#c")),
        ("allow_unsafe_etcd = yes", "allow_unsafe_etcd", True),
        ("allow_unsafe_etcd = no # please", "allow_unsafe_etcd", False),
        ("heartbeat_ms = 90\t#x", "heartbeat_ms", 90),
        ("election_ms = 50000", "election_ms", 50000),
        ("hosts = /etc/hosts", "hosts", Path("/etc/hosts")),
        ("invitation_ttl = 10s", "invitation_ttl", 10.0),
        ("invitation_ttl = 30d", "invitation_ttl", 2592000.0),
        ("learner_timeout = 1m30s", "learner_timeout", 90.0),
        ("nonvoting_commands = invite,delete", "nonvoting_commands", ("invite", "delete")),
        ("nonvoting_commands = promote , demote", "nonvoting_commands", ("promote", "demote")),
        ("nonvoting_commands = none", "nonvoting_commands", ()),
        ("log_level = debug", "log_level", "debug"),
    ],
)
def test_valid_line_changes_its_setting_and_no_other(line: str, key: str, value: object) -> None:
    """Each setting takes each form that it has."""
    changes: dict[str, Any] = {key: value}
    assert parse(f"# first\n{line}\n") == dataclasses.replace(DEFAULTS, **changes)


@pytest.mark.parametrize(
    ("line", "must"),
    [
        ("port = abc", "a whole number from 1 to 65535"),
        ("port = 0", "a whole number from 1 to 65535"),
        ("port = 65536", "a whole number from 1 to 65535"),
        ("port = +80", "a whole number from 1 to 65535"),
        ("port = 1_0", "a whole number from 1 to 65535"),
        ("port = ٣", "a whole number from 1 to 65535"),
        ("peer_port = -1", "a whole number from 1 to 65535"),
        ("heartbeat_ms = 9", "a whole number from 10 to 1000"),
        ("heartbeat_ms = 1001", "a whole number from 10 to 1000"),
        ("election_ms = 99", "a whole number from 100 to 50000"),
        ("election_ms = 50001", "a whole number from 100 to 50000"),
        ("election_ms = 500ms", "a whole number from 100 to 50000"),
        ("address = 10.0.0.256", "an IP address or a host name that other servers can reach"),
        ("address = localhost", "an IP address or a host name that other servers can reach"),
        ("address = a.Localhost", "an IP address or a host name that other servers can reach"),
        ("address = 0x7f000001", "an IP address or a host name that other servers can reach"),
        ("address = a_b", "an IP address or a host name that other servers can reach"),
        ("address = a..b", "an IP address or a host name that other servers can reach"),
        ("address = [::1]", "an IP address or a host name that other servers can reach"),
        ("address = a:13002", "an IP address or a host name that other servers can reach"),
        ("listen = mgt1", "IP addresses, each once, with commas between them"),
        ("listen = ::1,", "IP addresses, each once, with commas between them"),
        ("listen = ::1, 0::1", "IP addresses, each once, with commas between them"),
        ("etcd = etcd", "an absolute path"),
        ("hosts = ~/hosts", "an absolute path"),
        ("allow_unsafe_etcd = true", "yes or no"),
        (
            "nonvoting_commands = show",
            SOME_COMMANDS,
        ),
        (
            "nonvoting_commands = invite, none",
            SOME_COMMANDS,
        ),
        (
            "nonvoting_commands = invite, invite",
            SOME_COMMANDS,
        ),
        (
            "nonvoting_commands = invite,",
            SOME_COMMANDS,
        ),
        ("log_level = INFO", "debug, info, warning or error"),
        ("invitation_ttl = 9s", "a duration like 90s, 30m, 1h or 2d, from 10s to 30d"),
        ("invitation_ttl = 30d1s", "a duration like 90s, 30m, 1h or 2d, from 10s to 30d"),
        ("invitation_ttl = 3600", "a duration like 90s, 30m, 1h or 2d, from 10s to 30d"),
        ("learner_timeout = 0s", "a duration like 90s, 30m, 1h or 2d, from 1s to 1d"),
    ],
)
def test_bad_value_is_refused_with_line_expected_and_found(line: str, must: str) -> None:
    """The refusal names file, line, setting, what is expected and what was found."""
    key, _, value = line.partition(" = ")
    assert refusal(f"\n{line}\n").message == f"c.conf:2: {key} must be {must}, found {value!r}"


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ("address = 0.0.0.0", "'0.0.0.0' is not the address of a server", "under which other"),
        ("address = 0.1.2.3", "'0.1.2.3' is not the address of a server", "under which other"),
        ("address = ::", "'::' is not the address of a server", "under which other"),
        ("address = 224.0.0.1", "'224.0.0.1' is not the address of a server", "under which"),
        ("address = 255.255.255.255", "'255.255.255.255' is not the address", "under which"),
        ("address = fe80::1%eth0", "'fe80::1%eth0' is good on one link alone", "everywhere"),
        ("address = fe80::1", "'fe80::1' is good on one link alone", "everywhere"),
        ("address = fd00::1%1", "'fd00::1%1' is good on one link alone", "everywhere"),
        ("address = ::ffff:10.0.0.1", "'::ffff:10.0.0.1' is an IPv4 address", "write 10.0.0.1"),
        ("listen = ::1,fe80::1%eth0", "'fe80::1%eth0' is good on one link alone", "everywhere"),
        ("listen = ::ffff:a00:1", "'::ffff:a00:1' is an IPv4 address in the", "write 10.0.0.1"),
        ("listen = ::, 0.0.0.0", ":: takes the others as well", "write 'listen = ::'"),
        ("listen = 0.0.0.0, ::", ":: takes the others as well", "write 'listen = ::'"),
        ("listen = ::, ::1", ":: takes the others as well", "write 'listen = ::'"),
        ("listen = ::, 10.0.0.1", ":: takes the others as well", "write 'listen = ::'"),
        (
            "listen = 10.0.0.1, 0.0.0.0, ::1",
            "0.0.0.0 takes the others as well",
            "write 'listen = 0.0.0.0, ::1'",
        ),
        ("name = localhost", "'localhost' is not a server name", "another name"),
        ("name = LocalHost", "'LocalHost' is not a server name", "another name"),
        ("name = 192", "'192' is not a server name: it is read as an IPv4", "another name"),
        ("name = 0xC0A80001", "'0xC0A80001' is not a server name", "another name"),
    ],
)
def test_address_or_name_that_leads_nobody_here_is_refused_with_its_line(
    line: str, message: str, hint: str
) -> None:
    """A zone, an IPv4 address in the form of IPv6, one taken by another, localhost (k0s 705)."""
    key = line.split()[0]
    error = refusal(f"# x\n{line}")
    assert error.message.startswith(f"c.conf:2: {key}: {message}")
    assert error.hint is not None
    assert hint in error.hint


@pytest.mark.parametrize("host_name", ["192.168.1.7", "10.0.0.1", "::1", "localhost", "7"])
def test_host_name_that_leads_nobody_here_makes_no_server_name(host_name: str) -> None:
    """The first part of an address is nobody's name, and localhost is everybody's (k0s 705)."""
    with pytest.raises(InputError, match="makes no server name") as caught:
        parse_settings("", "c.conf", host_name)
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("set name in c.conf; ")
    assert parse_settings("name = mgt4", "c.conf", host_name).name == "mgt4"


@pytest.mark.parametrize(("text", "host_name"), [("", "192.168.1.7"), ("name = 192", "x")])
def test_server_that_has_such_a_name_already_keeps_it(text: str, host_name: str) -> None:
    """It can have no other one: an upgrade must not keep a member from starting."""
    assert parse_settings(text, "c.conf", host_name, former="192").name == "192"
    with pytest.raises(InputError):
        parse_settings(text, "c.conf", host_name, former="193")


def test_bad_server_name_is_refused_with_the_rule() -> None:
    """The rule for names comes from where names are made."""
    error = refusal("name = mgt_1")
    assert error.message.startswith("c.conf:1: name: ")
    assert "'mgt_1'" in error.message


def test_long_bad_value_is_shown_short() -> None:
    """A message stays a line that people can read."""
    assert len(refusal("port = " + "9" * 10_000).message) < 200


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("prot", "did you mean port or peer_port?"),
        ("Port", "did you mean port or peer_port?"),
        ("log-level", "did you mean log_level?"),
        ("zzz", "the settings are name, address, listen, port, peer_port, etcd, "),
        ("", "the settings are "),
    ],
)
def test_unknown_setting_is_refused_with_near_matches_or_all(key: str, hint: str) -> None:
    """A typing mistake is found and put right at once."""
    error = refusal(f"# x\n\n{key} = 1")
    assert error.message == f"c.conf:3: unknown setting {key!r}"
    assert error.hint is not None
    assert error.hint.startswith(hint)


def test_setting_given_twice_is_refused_with_both_lines() -> None:
    """No line silently wins over another."""
    error = refusal("port = 1\n# x\nport = 1\n")
    assert error.message == "c.conf:3: port is set twice, first on line 1"


def test_line_without_equals_sign_is_refused() -> None:
    """A section header or a bare word means nothing here."""
    assert refusal("[main]").message == "c.conf:1: expected 'key = value', found '[main]'"


@pytest.mark.parametrize("line", ["port =", "address = # none"])
def test_setting_without_a_value_is_refused(line: str) -> None:
    """An empty value does not mean the default."""
    error = refusal(line)
    assert error.message == f"c.conf:1: {line.split()[0]} has no value"
    assert error.hint == "leave the line out for the default"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (
            "heartbeat_ms = 200\nelection_ms = 999",
            "c.conf:2: election_ms must be at least 5 times heartbeat_ms (200), found 999",
        ),
        (
            "election_ms = 999\nheartbeat_ms = 200",
            "c.conf:1: election_ms must be at least 5 times heartbeat_ms (200), found 999",
        ),
        (
            "\nheartbeat_ms = 200",
            "c.conf:2: election_ms must be at least 5 times heartbeat_ms (200), "
            "found the default 450",
        ),
        (
            "election_ms = 249",
            "c.conf:1: election_ms must be at least 5 times heartbeat_ms (the default 50), "
            "found 249",
        ),
        ("port = 13003", "c.conf:1: peer_port and port must differ, both are 13003"),
        ("port = 1\npeer_port = 1", "c.conf:2: peer_port and port must differ, both are 1"),
    ],
)
def test_settings_that_contradict_are_refused_with_the_line(text: str, message: str) -> None:
    """The line to blame is one that is in the file."""
    assert refusal(text).message == message


def test_election_of_exactly_five_heartbeats_is_taken() -> None:
    """The limit itself is good."""
    settings = parse("heartbeat_ms = 200\nelection_ms = 1000")
    assert (settings.heartbeat_ms, settings.election_ms) == (200, 1000)


@pytest.mark.parametrize("host_name", ["MGT3", "mgt3.example.com"])
def test_default_name_is_the_short_host_name_in_lower_case(host_name: str) -> None:
    """The domain and capitals are left out."""
    assert parse_settings("", host_name=host_name).name == "mgt3"


def test_host_name_that_makes_no_server_name_is_refused_with_a_hint() -> None:
    """The operator learns which setting puts it right."""
    with pytest.raises(InputError, match=r"the host name 'my_host\.x' makes no") as caught:
        parse_settings("", "c.conf", "my_host.x")
    assert caught.value.hint is not None
    assert caught.value.hint.startswith("set name in c.conf; ")


def test_name_that_is_set_makes_the_host_name_irrelevant() -> None:
    """A bad host name does no harm then."""
    assert parse_settings("name = mgt4", "c.conf", "my_host").name == "mgt4"


def test_missing_file_gives_the_defaults(tmp_path: Path) -> None:
    """No file is needed, nor its folder."""
    settings = load_settings(tmp_path / "gone" / "c.conf")
    assert settings.name == socket.gethostname().split(".")[0].lower()
    assert dataclasses.replace(settings, name="mgt1") == DEFAULTS


def test_missing_file_that_was_named_is_refused(tmp_path: Path) -> None:
    """Whoever names a file wants what is in it (k0s 705)."""
    path = tmp_path / "c.conf"
    with pytest.raises(InputError, match=f"^cannot read {path}: there is no such file$"):
        load_settings(path, named=True)


@pytest.mark.parametrize("named", [True, False])
@pytest.mark.parametrize("link", ["c.conf", "."])
def test_link_that_leads_nowhere_is_no_missing_file(
    tmp_path: Path, named: bool, link: str
) -> None:
    """Of the file, or of a folder above it: somebody meant to have settings (k0s 705)."""
    folder = tmp_path / "etc"
    if link != ".":
        folder.mkdir()
    (folder / link).symlink_to(tmp_path / "gone")
    with pytest.raises(InputError, match="which is not there") as caught:
        load_settings(folder / "c.conf", named)
    assert f"{folder / link} is a link to {tmp_path / 'gone'}" in caught.value.message


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
def test_file_in_utf_8_is_read(tmp_path: Path, mark: bytes) -> None:
    """A byte order mark at the start is not part of the first key."""
    path = tmp_path / "c.conf"
    path.write_bytes(mark + "name = mgt5 # größer\n".encode())
    assert load_settings(path).name == "mgt5"


def test_error_in_a_file_names_its_path(tmp_path: Path) -> None:
    """The operator can open the file at that line."""
    path = tmp_path / "c.conf"
    path.write_text("port = abc\n")
    with pytest.raises(InputError) as caught:
        load_settings(path)
    assert caught.value.message == (
        f"{path}:1: port must be a whole number from 1 to 65535, found 'abc'"
    )


def test_file_that_is_not_utf_8_is_refused_with_the_line(tmp_path: Path) -> None:
    """Another encoding is never guessed."""
    path = tmp_path / "c.conf"
    path.write_bytes(b"name = mgt1\n# gr\xf6\xdfer\n")
    with pytest.raises(InputError, match=f"^{path}:2: not UTF-8 text, found byte 0xf6$"):
        load_settings(path)


def test_file_that_cannot_be_read_is_an_access_error(tmp_path: Path) -> None:
    """A file without the right to it is not taken for a missing one."""
    path = tmp_path / "c.conf"
    path.write_text("port = 1\n")
    path.chmod(0)
    root = os.geteuid() == 0
    if root:
        os.seteuid(NOBODY)
    try:
        with pytest.raises(AccessError, match=r"cannot read .*: permission denied"):
            load_settings(path)
    finally:
        if root:
            os.seteuid(0)


def test_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    """A folder is not a missing file."""
    with pytest.raises(CollectiveError, match="is a directory"):
        load_settings(tmp_path)


def test_help_explains_every_setting_once() -> None:
    """The manual has each field, a default and a sentence for it."""
    rows = settings_help()
    assert [name for name, _, _ in rows] == [f.name for f in dataclasses.fields(Settings)]
    assert all(default and sentence.endswith(".") for _, default, sentence in rows)


def test_defaults_in_the_help_are_valid_in_a_file() -> None:
    """Writing the defaults down changes nothing."""
    lines = [f"{name} = {default}" for name, default, _ in settings_help()]
    optional = {"name", "address", "listen", "etcd", "hosts"}
    assert parse("\n".join(li for li in lines if li.split()[0] not in optional)) == DEFAULTS


@given(st.text(), st.sampled_from([name for name, _, _ in settings_help()]))
def test_any_text_gives_settings_or_an_input_error(text: str, key: str) -> None:
    """Nothing else comes out, whatever is in the file."""
    for candidate in (text, f"{key} = {text}"):
        try:
            parse(candidate)
        except InputError as error:
            message = error.message
        else:
            continue
        assert message.startswith("c.conf:")
