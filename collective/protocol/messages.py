"""The paths of the doors and the forms of what crosses them.

Every message carries ``format``; what a newer release adds is ignored, a newer format is refused.

It opens nothing; ``peer`` and ``door`` do.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from collective.errors import ProtocolError
from collective.model.typed import fields_of

FORMAT = 1
DEFAULT_PORT = 13002

# A step that means: not your turn yet, ask again.
BUSY = "busy"

# The joiner's side of a join; it is a stranger.
CHALLENGE = "/v1/enroll/challenge"
CLAIM = "/v1/enroll/claim"
CONFIRM = "/v1/enroll/confirm"
ADMIT = "/v1/enroll/admit"

# For who does not know us, or whom we do not know.
SUCCESSION = "/v1/succession"
DELETED = "/v1/deleted"

# Between members; who may ask which stands beside the routes.
STATUS = "/v1/status"
SYNC = "/v1/sync"
LEAVE = "/v1/leave"
GIVE_UP = "/v1/give-up"
HAND_OVER = "/v1/hand-over"
RETURN = "/v1/return"
SELF = "/v1/self"
WHEREABOUTS = "/v1/whereabouts"
CALL = "/v1/call"
CERTIFICATE = "/v1/certificate"
COMMAND = "/v1/command"
LEARNER = "/v1/learner"
ETCD = "/v1/etcd"
READDRESS = "/v1/readdress"


def check_format(raw: Mapping[str, Any]) -> None:
    """Refuse a message of a newer format.

    Raises:
        ProtocolError: it is newer, or says no format.
    """
    version = raw.get("format")
    if not isinstance(version, int):
        raise ProtocolError("a message without a format came in")
    if version > FORMAT:
        raise ProtocolError(
            f"a message has format {version}, this release reads up to {FORMAT}",
            "upgrade collectived on this server",
        )


def text(raw: Mapping[str, Any], key: str, longest: int = 8192) -> str:
    """Return a text field of a message.

    Raises:
        ProtocolError: it is missing, no text, too long, or cannot be written in UTF-8: JSON can
            hold half of a surrogate pair.
    """
    value = raw.get(key)
    if not isinstance(value, str) or len(value) > longest or not _is_encodable(value):
        raise ProtocolError(f"a message has no good {key!r}")
    return value


def _is_encodable(value: str) -> bool:
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def octets(raw: Mapping[str, Any], key: str, longest: int = 8192) -> bytes:
    """Return a field of a message that is written in hexadecimal digits.

    Raises:
        ProtocolError: it is missing, too long, or not hexadecimal.
    """
    try:
        return bytes.fromhex(text(raw, key, longest))
    except ValueError:
        raise ProtocolError(f"a message has no good {key!r}") from None


def texts(raw: Mapping[str, Any], key: str, most: int) -> tuple[str, ...]:
    """Return a field of a message that is a list of at most so many texts.

    Raises:
        ProtocolError: it is missing, too long, or no such list.
    """
    value = raw.get(key)
    if not isinstance(value, list) or len(value) > most:
        raise ProtocolError(f"a message has no good {key!r}")
    return tuple(text({key: each}, key) for each in value)


def port(raw: Mapping[str, Any], key: str) -> int:
    """Return a TCP port of a message.

    Raises:
        ProtocolError: it is no port.
    """
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 < value < 65536:
        raise ProtocolError(f"a message has no good {key!r}")
    return value


def count(raw: Mapping[str, Any], key: str) -> int:
    """Return a number from 0 of a message.

    Raises:
        ProtocolError: it is missing, or no such number.
    """
    value = raw.get(key)
    if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value < 1 << 64:
        raise ProtocolError(f"a message has no good {key!r}")
    return value


@dataclass(frozen=True)
class ServerStatus:
    """What one server says of itself.

    Attributes:
        name: its name.
        release: version of this software.
        etcd_version: of the etcd that it runs.
        member_id, leader: etcd ids in hex, "" for none.
        term, index, applied: raft numbers.
        db_size: bytes.
        learner: whether its etcd still catches up.
        certificate: fingerprint of the one that its door shows, "" where that is not known.
        errors: what it complains of.
        durable_term, durable_index: raft numbers that are on its disk for sure.
        nonvoting: whether it lives without an etcd of its own.
        addresses: what it may send from: the IP addresses that its certificate names.
    """

    name: str
    release: str
    etcd_version: str
    member_id: str
    leader: str
    term: int
    index: int
    applied: int
    db_size: int
    learner: bool
    certificate: str
    errors: tuple[str, ...]
    durable_term: int = 0
    durable_index: int = 0
    nonvoting: bool = False
    addresses: tuple[str, ...] = ()

    @property
    def runs(self) -> bool:
        """Whether its etcd answers it; one that does not vote needs none."""
        return bool(self.member_id) or self.nonvoting

    @property
    def healthy(self) -> bool:
        """Whether its etcd follows or is a leader; without an etcd, whether it reaches one."""
        return self.runs and bool(self.leader)

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form."""
        fields = {key: getattr(self, key) for key in self.__dataclass_fields__}
        plain = {k: list(v) if isinstance(v, tuple) else v for k, v in fields.items()}
        return {"format": FORMAT, **plain}

    @classmethod
    def from_wire(cls, raw: Mapping[str, Any]) -> ServerStatus:
        """Read the JSON form.

        Raises:
            ProtocolError: it is not such a message, or a newer one.
        """
        check_format(raw)
        try:
            return cls(**fields_of(cls, raw))
        except (KeyError, TypeError, ValueError) as error:
            raise ProtocolError(f"a status is broken: {error!r}") from None
