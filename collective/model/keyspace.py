"""Where the keys of embedders lie in etcd, and which keys and values are good.

It reads and writes nothing. The collective's own records are in ``collective.model.view``.

Invariants:
  * What embedders store is beside the collective's records, never among them: under ``STORE``.
  * All of it is under ``EVERYTHING``, so that one watch has all of it, in one order.
"""

from __future__ import annotations

from collective.errors import InputError

EVERYTHING = "collective/"
STORE = EVERYTHING + "store/"
#: Locks, elections and assignments; a later form would be under another number.
COORDINATION_ROOT = EVERYTHING + "coordination/"
COORDINATION = COORDINATION_ROOT + "v1/"
#: What the writes of each handle compare, below the name of its server.
GUARDS = COORDINATION_ROOT + "guards/"

#: Below ``COORDINATION``: which servers are there, each by a key under a lease of its daemon.
ONLINE = "online/"

#: Longest key of an embedder, in characters.
MOST_KEY = 512
#: Longest value, in bytes. etcd takes requests of 1.5 MiB, and base64 is not counted there.
MOST_VALUE = 1 << 20
#: Keys that one transaction reads through a voter: an answer is held in memory several times.
#: And ranges that it removes: each one is looked through while every voter waits.
MOST_READS = 32

_SHOWN = 60


def online_key(name: str) -> str:
    """Return the key, below ``COORDINATION``, that is there while a server is, by its name."""
    return ONLINE + name


def check_key(key: str) -> None:
    """Refuse what is no key: 1 to 512 printable ASCII characters, none of them a space.

    The gateway's client knows no others safely (field notes: ``_encode`` is latin-1).

    Raises:
        InputError: it is none; the text says why.
    """
    _check_text(key, "key")
    if not key:
        raise InputError("a key is empty, expected 1 to 512 characters")


def check_prefix(prefix: str) -> None:
    """Refuse what can be the beginning of no key; the empty prefix is that of all.

    Raises:
        InputError: it is none; the text says why.
    """
    _check_text(prefix, "prefix")


def check_value(key: str, value: bytes) -> None:
    """Refuse what is no value: bytes, 1 MiB at most.

    Args:
        key: for the message.
        value: what is to be stored under it.

    Raises:
        InputError: it is none; the text says why.
    """
    if not isinstance(value, bytes):
        raise InputError(
            f"the value of {key[:_SHOWN]} is of type {type(value).__name__}, expected bytes",
            "encode it, or use put_json",
        )
    if len(value) > MOST_VALUE:
        raise InputError(
            f"the value of {key[:_SHOWN]} has {len(value)} bytes, at most are {MOST_VALUE}",
            "divide it over several keys, or keep it in a file and store its name and hash",
        )


def _check_text(text: str, what: str) -> None:
    if not isinstance(text, str):
        raise InputError(f"a {what} is of type {type(text).__name__}, expected str")
    if len(text) > MOST_KEY:
        raise InputError(
            f"the {what} {text[:_SHOWN]}... has {len(text)} characters, at most {MOST_KEY} are "
            "allowed"
        )
    if not text.isascii() or not text.isprintable() or " " in text:
        raise InputError(
            f"the {what} {text[:_SHOWN]!r} has other characters than printable ASCII, or a space",
            "encode it first, for example with urllib.parse.quote",
        )
