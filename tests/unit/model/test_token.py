"""The invitation token: its text, and what no mistake may show."""

from __future__ import annotations

import base64
import binascii
import hashlib
import traceback

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.errors import InvitationError
from collective.model.token import Token

MANUAL = (
    "bWd0MkA+BNQ6XAxMXlqJJa+EQRlihL/k9xCXnasgSQXZr989Pa1/ln7G3e1Ncxx6BMzMqqreHJVkPr2FrzjNit/UgHlg"
)

NAMES = st.from_regex(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", fullmatch=True)
# Seeds as they are in life: random, so that no part of one is by chance what a name looks like.
SEEDS = st.integers(0, 1 << 32).map(lambda n: hashlib.sha256(b"seed%d" % n).digest())
TOKENS = st.builds(Token, NAMES, SEEDS, st.binary(min_size=32, max_size=32))


def forms(seed: bytes) -> list[str]:
    """Return how bytes could show in a text, also in part."""
    parts = [seed[i : i + 8] for i in range(len(seed) - 7)]
    as_hex = [part.hex() for part in parts]
    as_base64 = [base64.b64encode(part).decode()[:10] for part in parts]
    return as_hex + as_base64 + [repr(part)[2:-1] for part in parts]


def shows(text: str, seed: bytes) -> bool:
    return any(form in text for form in forms(seed))


def refusal(text: str) -> InvitationError | None:
    """Parse a token and return the error, having looked that it can be no other."""
    try:
        Token.parse(text)
    except InvitationError as error:
        return error
    return None


def test_token_of_the_manual_is_parsed() -> None:
    """The token that is printed in Confluent's manual is one of ours."""
    token = Token.parse(MANUAL)
    raw = base64.b64decode(MANUAL)
    assert token.name == "mgt2"
    assert b"mgt2@" + token.seed + token.guests == raw
    assert (len(token.seed), len(token.guests)) == (32, 32)
    assert token.to_text() == MANUAL


@given(TOKENS, st.sampled_from(["", "\n", " ", "\r\n"]))
def test_token_comes_back_from_its_text(token: Token, around: str) -> None:
    """White space around it does not count, and there is no padding to lose."""
    text = token.to_text()
    assert "=" not in text
    assert len(text) % 4 == 0
    assert Token.parse(around + text + around) == token


def test_filling_bytes_are_random() -> None:
    """Two texts of one token differ where the length leaves bytes over."""
    token = Token("mgt10", b"s" * 32, b"p" * 32)
    assert len({token.to_text() for _ in range(20)}) > 1


@given(TOKENS, st.integers(0), st.integers(1, 255))
def test_any_byte_that_changed_gives_another_token_or_an_invitation_error(
    token: Token, where: int, change: int
) -> None:
    """No other error leaves, and none shows the seed."""
    raw = bytearray(base64.b64decode(token.to_text()))
    raw[where % len(raw)] ^= change
    error = refusal(base64.b64encode(raw).decode())
    if error is not None:
        whole = "".join(traceback.format_exception(error))
        assert not shows(whole, token.seed)


@given(TOKENS, st.integers(0), st.characters(codec="utf-8"))
def test_any_character_that_changed_gives_no_other_error(
    token: Token, where: int, char: str
) -> None:
    """Typing mistakes of every alphabet end as an invitation error that shows nothing."""
    text = token.to_text()
    at = where % len(text)
    error = refusal(text[:at] + char + text[at + 1 :])
    if error is not None:
        whole = "".join(traceback.format_exception(error))
        assert not shows(whole, token.seed)
        assert text[10:30] not in whole


@given(TOKENS, st.integers(0))
def test_token_that_was_cut_is_refused_and_not_shown(token: Token, length: int) -> None:
    """Half a line from a terminal never passes for a token."""
    text = token.to_text()
    spare = 4 if (len(token.name) + 65) % 3 else 0
    cut = text[: length % (len(text) - spare)]
    error = refusal(cut)
    assert error is not None
    assert error.hint == "copy the whole line that 'collective invite' printed"
    assert not shows("".join(traceback.format_exception(error)), token.seed)


@given(
    st.one_of(
        st.text(max_size=200), st.binary(max_size=200).map(lambda b: base64.b64encode(b).decode())
    )
)
def test_any_text_gives_a_token_or_an_invitation_error(text: str) -> None:
    """Whatever is pasted, it is an invitation error or a token."""
    refusal(text)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("", "is empty"),
        (" \n", "is empty"),
        ("x" * 1025, "too long: 1025 characters"),
        ("hello!", "is not base64"),
        ("YQ", "is not base64"),
        (MANUAL[:40] + "\n" + MANUAL[40:], "is not base64"),
        ("é" * 8, "is not base64"),
        (base64.b64encode(b"x" * 69).decode(), "names no server"),
        (base64.b64encode(b"@" + b"x" * 64).decode(), "names no server"),
        (base64.b64encode(b"-a@" + b"x" * 64).decode(), "names no server"),
        (base64.b64encode(b"\xff@" + b"x" * 64).decode(), "names no server"),
        (base64.b64encode(b"mgt2@" + b"x" * 63).decode(), "for mgt2 is cut short: 63 bytes of 64"),
        (base64.b64encode(b"mgt2@" + b"x" * 67).decode(), "for mgt2 is garbled: it is too long"),
        (base64.b64encode(b"mgt2@" + b"x" * 700).decode(), "for mgt2 is garbled: it is too long"),
    ],
)
def test_refusal_says_what_is_wrong_with_the_token(text: str, says: str) -> None:
    """A person can tell an empty line from a cut one."""
    error = refusal(text)
    assert error is not None
    assert says in error.message
    assert "xxxx" not in error.message


@pytest.mark.parametrize("filling", [b"", b"f", b"ff"])
def test_filling_of_up_to_two_bytes_is_passed_over(filling: bytes) -> None:
    """That many make every length of a name end without padding, and no more are needed."""
    raw = b"mgt2@" + b"s" * 32 + b"p" * 32 + filling
    assert Token.parse(base64.b64encode(raw).decode()) == Token("mgt2", b"s" * 32, b"p" * 32)


def test_seed_is_in_no_representation() -> None:
    """A token that ends in a log by accident lets nobody in."""
    token = Token.parse(MANUAL)
    for text in (repr(token), str(token), f"{token}", repr([token]), repr({"t": token})):
        assert "mgt2" in text
        assert not shows(text, token.seed)
        assert binascii.hexlify(token.seed).decode() not in text
