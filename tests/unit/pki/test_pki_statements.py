"""Tests of the signed statements: what they cover, and that nothing else passes."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ed25519, rsa
from hypothesis import given
from hypothesis import strategies as st

from collective import pki
from collective.errors import InputError, ProtocolError
from tests.unit.pki.attacks import Forged, Key

SEED = bytes(range(32))

ENROLLMENT = pki.EnrollmentStatement(
    name="mgt2",
    role="member",
    server_fingerprint="aa" * 32,
    nonce="01" * 16,
    certificate_fingerprint="bb" * 32,
    addresses=("10.0.0.2", "mgt2.example.com"),
    door_port=13002,
    peer_port=13003,
)
REPLACEMENT = pki.ReplacementStatement(name="mgt2", former="dd" * 32, following="ee" * 32)

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=12)
PORT = st.integers(min_value=0, max_value=65535)
ENROLLMENTS = st.builds(
    pki.EnrollmentStatement,
    name=TEXT,
    role=TEXT,
    server_fingerprint=TEXT,
    nonce=TEXT,
    certificate_fingerprint=TEXT,
    addresses=st.lists(TEXT, max_size=3).map(tuple),
    door_port=PORT,
    peer_port=PORT,
)
REPLACEMENTS = st.builds(pki.ReplacementStatement, name=TEXT, former=TEXT, following=TEXT)


def tampered(value: object) -> list[Any]:
    """Return values near to one that was signed."""
    if isinstance(value, int):
        return [value + 1, value - 1, value ^ 256, str(value)]
    if isinstance(value, str):
        return [value + "0", value[:-1], value.upper() + "A", "", (value,)]
    assert isinstance(value, tuple)
    joined = "".join(value)
    return [value[:-1], value[::-1], (*value, "10.0.0.9"), (), (joined,), joined, (*value, "")]


def changes(
    statement: pki.EnrollmentStatement | pki.ReplacementStatement,
) -> list[tuple[str, Any]]:
    return [
        (entry.name, value)
        for entry in dataclasses.fields(statement)
        if entry.name != "format"
        for value in tampered(getattr(statement, entry.name))
    ]


def test_new_seeds_are_32_bytes_and_differ() -> None:
    """A seed is never given twice."""
    seeds = {pki.new_seed() for _ in range(50)}
    assert len(seeds) == 50
    assert {len(seed) for seed in seeds} == {32}


def test_public_key_of_known_seed_is_that_of_the_rfc() -> None:
    """The first test of RFC 8032, section 7.1."""
    seed = "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60"
    public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    assert pki.public_key_of(bytes.fromhex(seed)).hex() == public


@pytest.mark.parametrize("seed", [b"", b"\x55" * 31, b"\x55" * 33])
def test_seed_of_another_size_is_refused_without_showing_it(seed: bytes) -> None:
    """The message gives the size, not the seed."""
    with pytest.raises(InputError, match=f"seed has {len(seed)} bytes, expected 32") as caught:
        pki.public_key_of(seed)
    assert "U" not in str(caught.value)
    with pytest.raises(InputError):
        pki.sign_enrollment(seed, ENROLLMENT)


def test_octets_of_enrollment_never_change() -> None:
    """Servers one release apart must sign the same octets, so they are written out here."""
    assert ENROLLMENT.to_bytes() == b"".join(
        [
            b"collective enrollment v1\0",
            b"i\0\0\0\0\0\0\0\x01",
            b"s\0\0\0\x04mgt2",
            b"s\0\0\0\x06member",
            b"s\0\0\0\x40" + b"aa" * 32,
            b"s\0\0\0\x20" + b"01" * 16,
            b"s\0\0\0\x40" + b"bb" * 32,
            b"t\0\0\0\x02s\0\0\0\x0810.0.0.2s\0\0\0\x10mgt2.example.com",
            b"i\0\0\0\0\0\0\x32\xca",
            b"i\0\0\0\0\0\0\x32\xcb",
        ]
    )


def test_octets_of_replacement_never_change() -> None:
    """The same for the statement with which one certificate names the next."""
    assert REPLACEMENT.to_bytes() == b"".join(
        [
            b"collective replacement v1\0",
            b"s\0\0\0\x04mgt2",
            b"s\0\0\0\x40" + b"dd" * 32,
            b"s\0\0\0\x40" + b"ee" * 32,
        ]
    )


@given(st.binary(min_size=32, max_size=32), ENROLLMENTS)
def test_signed_enrollment_verifies(seed: bytes, statement: pki.EnrollmentStatement) -> None:
    """Every statement that exists can be signed and verified."""
    signature = pki.sign_enrollment(seed, statement)
    assert len(signature) == 64
    assert pki.verify_enrollment(pki.public_key_of(seed), statement, signature)


@pytest.mark.parametrize(("field", "value"), changes(ENROLLMENT))
def test_enrollment_with_a_field_changed_is_refused(field: str, value: Any) -> None:
    """The signature covers each field, its type and its borders."""
    signature = pki.sign_enrollment(SEED, ENROLLMENT)
    other = dataclasses.replace(ENROLLMENT, **{field: value})
    assert not pki.verify_enrollment(pki.public_key_of(SEED), other, signature)


@pytest.mark.parametrize(("field", "value"), changes(REPLACEMENT))
def test_replacement_with_a_field_changed_is_refused(
    key_pem: bytes, certificate: pki.Certificate, field: str, value: Any
) -> None:
    """The signature covers each field, its type and its borders."""
    signature = pki.sign_replacement(key_pem, REPLACEMENT)
    other = dataclasses.replace(REPLACEMENT, **{field: value})
    assert not pki.verify_replacement(certificate.pem, other, signature)


@given(ENROLLMENTS, ENROLLMENTS)
def test_enrollments_have_equal_octets_only_if_equal(
    one: pki.EnrollmentStatement, two: pki.EnrollmentStatement
) -> None:
    """The encoding loses nothing."""
    assert (one == two) == (one.to_bytes() == two.to_bytes())


@given(st.lists(TEXT, min_size=2, max_size=2), st.integers(0, 24), st.lists(TEXT, max_size=4))
def test_moving_a_border_between_fields_changes_the_octets(
    texts: list[str], cut: int, addresses: list[str]
) -> None:
    """Text that moves from one field to the next, or between addresses, is another statement."""
    joined = "".join(texts)
    one = dataclasses.replace(ENROLLMENT, name=texts[0], role=texts[1], addresses=tuple(addresses))
    two = dataclasses.replace(
        ENROLLMENT, name=joined[:cut], role=joined[cut:], addresses=("".join(addresses),)
    )
    assert (one == two) == (one.to_bytes() == two.to_bytes())


@pytest.mark.parametrize("version", [0, 2, -1, "1", None, True])
def test_enrollment_of_another_format_cannot_exist(version: Any) -> None:
    """A newer format is refused with a clear sentence, never misread."""
    with pytest.raises(ProtocolError, match="format"):
        dataclasses.replace(ENROLLMENT, format=version)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("name", None),
        ("name", b"mgt2"),
        ("name", "\ud800"),
        ("addresses", ["10.0.0.2"]),
        ("addresses", (1,)),
        ("addresses", (("10.0.0.2",),)),
        ("door_port", -1),
        ("door_port", 1 << 64),
        ("door_port", True),
        ("door_port", 1.5),
    ],
)
def test_statement_that_cannot_be_signed_cannot_exist(field: str, value: Any) -> None:
    """What has no octets is refused when it is made, and the field is named."""
    with pytest.raises(ProtocolError, match=field):
        dataclasses.replace(ENROLLMENT, **{field: value})


def test_enrollment_signed_with_another_seed_is_refused() -> None:
    """Only the seed of the token proves the token."""
    signature = pki.sign_enrollment(pki.new_seed(), ENROLLMENT)
    assert not pki.verify_enrollment(pki.public_key_of(SEED), ENROLLMENT, signature)


def test_each_changed_octet_of_a_signature_is_noticed(
    key_pem: bytes, certificate: pki.Certificate
) -> None:
    """Flipping a bit anywhere, or cutting or adding an octet, spoils both kinds of signature."""
    public = pki.public_key_of(SEED)
    enrolled = pki.sign_enrollment(SEED, ENROLLMENT)
    replaced = pki.sign_replacement(key_pem, REPLACEMENT)
    for bad in spoiled(enrolled):
        assert not pki.verify_enrollment(public, ENROLLMENT, bad)
    for bad in spoiled(replaced):
        assert not pki.verify_replacement(certificate.pem, REPLACEMENT, bad)


def spoiled(signature: bytes) -> list[bytes]:
    flipped = [
        signature[:at] + bytes([signature[at] ^ 1]) + signature[at + 1 :]
        for at in range(len(signature))
    ]
    return [*flipped, signature[:-1], signature + b"\0", b""]


@given(key=st.binary(max_size=40), text=st.text(max_size=40), signature=st.binary(max_size=80))
def test_garbage_verifies_nothing_and_raises_nothing(
    certificate: pki.Certificate, key: bytes, text: str, signature: bytes
) -> None:
    """Whatever octets come from outside, the answer is no."""
    assert not pki.verify_enrollment(key, ENROLLMENT, signature)
    assert not pki.verify_enrollment(pki.public_key_of(SEED), ENROLLMENT, signature)
    assert not pki.verify_replacement(text, REPLACEMENT, signature)
    assert not pki.verify_replacement(certificate.pem, REPLACEMENT, signature)


@given(statement=REPLACEMENTS)
def test_signed_replacement_verifies(
    key_pem: bytes, certificate: pki.Certificate, statement: pki.ReplacementStatement
) -> None:
    """Every statement that exists can be signed and verified."""
    signature = pki.sign_replacement(key_pem, statement)
    assert pki.verify_replacement(certificate.pem, statement, signature)


def test_replacement_by_another_key_is_refused(certificate: pki.Certificate) -> None:
    """A certificate that says of itself that it takes another one's place is found out."""
    signature = pki.sign_replacement(pki.new_key(), REPLACEMENT)
    assert not pki.verify_replacement(certificate.pem, REPLACEMENT, signature)


@pytest.mark.parametrize(
    "key",
    [ed25519.Ed25519PrivateKey.generate(), rsa.generate_private_key(65537, 2048)],
    ids=["Ed25519", "RSA"],
)
def test_replacement_by_another_kind_of_key_is_refused(key: Key) -> None:
    """Such a certificate is none of ours, whatever it signs: no, and no error."""
    assert not pki.verify_replacement(Forged(key=key).pem(), REPLACEMENT, bytes(64))


def test_replacement_with_a_bad_key_is_refused() -> None:
    """A key that is none is a mistake of this server's own, so it is raised."""
    with pytest.raises(InputError, match="not readable"):
        pki.sign_replacement(b"no key", REPLACEMENT)


def test_kinds_of_statement_never_share_octets() -> None:
    """Each kind starts with a prefix of its own, and neither prefix starts the other."""
    prefixes = [pki.EnrollmentStatement.prefix, pki.ReplacementStatement.prefix]
    for statement, prefix in zip((ENROLLMENT, REPLACEMENT), prefixes, strict=True):
        assert statement.to_bytes().startswith(prefix)
        assert prefix.endswith(b"\0")
    assert not prefixes[0].startswith(prefixes[1])
    assert not prefixes[1].startswith(prefixes[0])
