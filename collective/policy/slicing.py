"""A range of keys that is read a few keys at a time, so that no answer of etcd is large.

etcd has no bound on the bytes of an answer, only on the number of keys, and it holds an answer
several times over: three of 60 MB took it to 905 MiB. So the number is small at first, and grows
where the keys turn out to be small.

Invariants:
  * All slices are of one revision.
  * What is given is a whole beginning of what was asked for, and ``more`` says that there is more.

Pure: it asks nobody.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

from collective.errors import EtcdError

# A value has 1.5 MiB at most. Few keys at first; a later slice is as large as the keys before it
# let expect, and a call takes etcd longer than 100 small keys do.
_FIRST_KEYS, _GROWTH, _MOST_KEYS = 4, 8, 512
_SLICE_BYTES = 1 << 20
#: Of the keys and values of one answer, in base64.
ANSWER_BYTES = 4 << 20

Body = Mapping[str, Any]


class Slices:
    """The slices of one range, one after the other."""

    def __init__(self, body: Body) -> None:
        """Begin.

        Args:
            body: of the request, as ``relaying`` let it pass.
        """
        self._body = dict(body)
        self._left = int(body.get("limit", 0)) or None
        self._keys = _FIRST_KEYS
        self._found: list[Mapping[str, Any]] = []
        self._bytes = 0
        self._first: Mapping[str, Any] | None = None
        self._more = True

    @property
    def is_done(self) -> bool:
        """Whether there is nothing more to ask for."""
        return self._first is not None and (
            not self._more or self._left == 0 or self._bytes >= ANSWER_BYTES
        )

    def request(self) -> dict[str, Any]:
        """Return the next one to ask for."""
        keys = self._keys if self._left is None else min(self._keys, self._left)
        return {**self._body, "limit": str(keys)}

    def take(self, answer: Body) -> None:
        """Take the answer to the one that was asked for.

        Raises:
            EtcdError: it is none.
        """
        try:
            kvs = answer.get("kvs", ())
            size = sum(len(kv["key"]) + len(kv.get("value", "")) for kv in kvs)
            revision = int(answer["header"]["revision"])
            following = base64.b64decode(kvs[-1]["key"]) + b"\0" if kvs else b""
        except (KeyError, TypeError, ValueError, AttributeError) as error:
            raise EtcdError("etcd: an answer came without what was asked for") from error
        if self._first is None:
            self._first = answer
            if not int(self._body.get("revision", 0)):
                self._body["revision"] = str(revision)
        self._found += kvs
        self._bytes += size
        self._more = bool(answer.get("more", False)) and bool(kvs)
        if self._left is not None:
            self._left -= len(kvs)
        if kvs:
            self._body["key"] = base64.b64encode(following).decode("ascii")
            fitting = _SLICE_BYTES * len(kvs) // max(size, 1)
            self._keys = max(1, min(_GROWTH * self._keys, fitting, _MOST_KEYS))

    def answer(self) -> dict[str, Any]:
        """Return all that was taken, in the gateway's JSON."""
        assert self._first is not None
        whole = {k: v for k, v in self._first.items() if k not in ("kvs", "more")}
        return {
            **whole,
            **({"kvs": self._found} if self._found else {}),
            **({"more": True} if self._more else {}),
        }
