"""The fingerprint of a certificate, found without the library that judges one."""

from __future__ import annotations

import base64
import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from collective.model.fingerprint import fingerprint_of, is_fingerprint
from tests.unit.identities import identity

BEGIN, END = "-----BEGIN CERTIFICATE-----", "-----END CERTIFICATE-----"


def test_fingerprint_is_that_which_the_library_finds() -> None:
    """Two parts of the code compare them, so they must never differ."""
    one = identity("mgt1")
    assert fingerprint_of(one.pem) == one.fingerprint
    assert is_fingerprint(one.fingerprint)
    assert fingerprint_of(f"\n {one.pem}\r\n") == one.fingerprint


def test_fingerprint_of_known_octets_never_changes() -> None:
    """It stands in tokens, stores and trust files."""
    pem = f"{BEGIN}\n{base64.b64encode(b'abc').decode()}\n{END}\n"
    assert fingerprint_of(pem) == (
        "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    )


@given(st.binary(max_size=200), st.integers(1, 80))
def test_fingerprint_does_not_depend_on_the_lines(der: bytes, width: int) -> None:
    """One certificate has one fingerprint, however it is wrapped."""
    text = base64.b64encode(der).decode()
    lines = "\n".join(text[at : at + width] for at in range(0, len(text), width))
    assert fingerprint_of(f"{BEGIN}\n{lines}\n{END}") == hashlib.sha256(der).hexdigest()


@pytest.mark.parametrize(
    "text",
    ["", "x", BEGIN, END, END + BEGIN, f"{BEGIN}a{END}", f"{BEGIN}\nYWI\n{END}", "\ud800"],
)
def test_what_is_no_certificate_has_no_fingerprint(text: str) -> None:
    """The empty text is nobody's."""
    assert fingerprint_of(text) == ""


@given(st.text(max_size=80))
def test_any_text_is_survived(text: str) -> None:
    """A record may hold anything; one that is broken stops nobody."""
    assert fingerprint_of(text) == ""
    found = fingerprint_of(f"{BEGIN}{text}{END}")
    assert found == "" or is_fingerprint(found)


@pytest.mark.parametrize(
    "value",
    [None, 5, b"a" * 64, "", "a" * 63, "a" * 65, "A" * 64, "g" * 64, "a" * 63 + "\n", ["a"] * 64],
)
def test_anything_else_is_no_fingerprint(value: object) -> None:
    """One form alone, so that two that are one certificate's are equal."""
    assert not is_fingerprint(value)
