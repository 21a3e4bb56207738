"""The paths of the doors, and the messages that cross them: a class for each, with its limits.

Every message carries ``format``; what a newer release adds is ignored, a newer format is refused.
A field with a default may be missing: it was added later, or is not always told.

It opens nothing (``peer`` and ``door`` do), and does not know what a message is for. Records,
certificates, forecasts and findings travel in a form of their own, which those read that judge
them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sized
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar, TypeVar

from collective.errors import ProtocolError
from collective.model.fingerprint import is_fingerprint
from collective.model.names import MOST_ADDRESSES, is_ip_address
from collective.model.typed import PASSING_OVER, fields_of, plain

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


# Kinds of fields -------------------------------------------------------------------------------


def within(longest: int) -> Callable[[str], bool]:
    """Return a test for texts of so many characters that can be written in UTF-8.

    JSON can hold half of a surrogate pair, which cannot.
    """
    return lambda text: len(text) <= longest and _is_encodable(text)


def holding(least: int, most: int) -> Callable[[Sized], bool]:
    """Return a test for lists and objects of so many items."""
    return lambda items: least <= len(items) <= most


def between(least: float, most: float) -> Callable[[float], bool]:
    """Return a test for numbers, these two among them."""
    return lambda number: least <= number <= most


def _is_encodable(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_hexadecimal(text: str) -> bool:
    try:
        bytes.fromhex(text)
    except ValueError:
        return False
    return True


Text = Annotated[str, within(8192)]
Name = Annotated[str, within(64)]
Address = Annotated[str, within(63), is_ip_address]
Digits = Annotated[str, within(8192), _is_hexadecimal]
#: PEM. Whether it is a certificate, and a small one, whoever is to trust it judges.
Certificate = Annotated[str, within(1 << 14)]
SmallCertificate = Annotated[str, within(4096)]
Port = Annotated[int, between(1, 65535)]
Count = Annotated[int, between(0, (1 << 64) - 1)]

#: A server that was off for more changes of a certificate than these must be invited again.
MOST_STEPS = 32
#: Of how many members whereabouts are told.
MOST_PLACES = 64
#: Characters of all records.
MOST_VIEW = 8 << 20

P = TypeVar("P", bound="Part")


@dataclass(frozen=True)
class Part:
    """What is in a message, or a line of an answer: it has no format of its own."""

    #: Of an error, with the field that is at fault.
    _refusal: ClassVar[str] = "a message has no good {!r}"

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form, without what is None."""
        return {name: value for name, value in plain(self).items() if value is not None}

    @classmethod
    def from_wire(cls: type[P], raw: object) -> P:
        """Read the JSON form.

        Raises:
            ProtocolError: it is no such message, or a newer one. It says which field is at fault,
                and not what it holds: that may be a secret.
        """
        if not isinstance(raw, dict):
            raise ProtocolError("a message is no JSON object")
        try:
            return cls(**fields_of(cls, raw))
        except (KeyError, TypeError) as error:
            raise ProtocolError(cls._refusal.format(error.args[0])) from None


M = TypeVar("M", bound="Message")


@dataclass(frozen=True)
class Message(Part):
    """A whole message; this one has no fields, since its path says all."""

    def to_wire(self) -> dict[str, Any]:
        """Return the JSON form."""
        return {"format": FORMAT, **super().to_wire()}

    @classmethod
    def from_wire(cls: type[M], raw: object) -> M:
        """Read the JSON form, see ``Part``."""
        if isinstance(raw, dict):
            check_format(raw)
        return super().from_wire(raw)


# A join ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Challenge(Message):
    """What a member says to a stranger.

    Attributes:
        nonce: good once, on this connection.
        guests: a list of guest lists; ``joining.guests`` judges them.
        name: of the member.
        release: of its software.
        now: its clock, in seconds since the epoch.
        seen: the address that it sees the stranger at.
    """

    nonce: Annotated[str, within(128)]
    guests: Any = None
    name: Text | None = None
    release: Text = "an unknown release"
    now: float | None = None
    seen: Text = ""


@dataclass(frozen=True)
class Claim(Message):
    """What a joiner says of itself, with the proof that it holds the token.

    Attributes:
        name: that was invited.
        role: that it wants.
        certificate: its own, PEM.
        addresses: all that it may send from, the one to advertise first.
        door_port, peer_port: its TCP ports.
        signature: of all this and the nonce, with the token's key.
        dry_run: whether nothing is to be claimed.
    """

    _refusal: ClassVar[str] = "a proof has no good {!r}"

    name: Text
    role: Annotated[str, within(32)]
    certificate: Certificate
    addresses: Annotated[tuple[Address, ...], holding(1, MOST_ADDRESSES)]
    door_port: Port
    peer_port: Port
    signature: Digits
    dry_run: bool = False


@dataclass(frozen=True)
class Voter(Part):
    """A voter whom a joiner must be able to reach.

    Attributes:
        name, address: of it.
        door_port, peer_port: its TCP ports.
        fingerprint: SHA-256 (hex) of the certificate that it shows.
        broken: whether the sponsor does not know that its etcd takes part.
    """

    name: Text
    address: Address
    door_port: Port
    peer_port: Port
    fingerprint: Annotated[str, is_fingerprint]
    broken: bool = False


@dataclass(frozen=True)
class Prospect(Message):
    """What a claim leads to; of a bad one, that is rehearsed, the findings alone.

    Attributes:
        members: the voters; those that have no form are left out.
        role: what the invitation makes of the joiner.
        forecast: what that does to the quorum, see ``policy.forecast``.
        pauses: how many voters restart their etcds for it.
        findings: of a dry run, see ``policy.preflight``.
        certify: of a dry run: what the joiner's next certificate is to name, which it is to make
            first; None where the one that it has will do.
    """

    members: Annotated[tuple[Voter, ...], PASSING_OVER] | None = None
    role: Name | None = None
    forecast: Mapping[str, Any] | None = None
    pauses: Count | None = None
    findings: Any = None
    certify: Annotated[tuple[Address, ...], holding(1, MOST_ADDRESSES + 2)] | None = None


@dataclass(frozen=True)
class ClaimQuestion(Message):
    """Whether a claim is recorded.

    Attributes:
        name: that was invited.
        certificate: fingerprint of the one that claimed.
    """

    name: Name
    certificate: Text


@dataclass(frozen=True)
class ClaimAnswer(Message):
    """Whether it is; where it is not, nothing else is told.

    Attributes:
        claimed: whether it is recorded.
        collective: SHA-256 (hex) of the cluster token.
        voters: certificate and URL of each voter, see ``joining.guests``.
    """

    claimed: bool
    collective: Text | None = None
    voters: Annotated[tuple[Text, ...], PASSING_OVER] | None = None


@dataclass(frozen=True)
class AdmissionStep(Part):
    """A line while a joiner is taken in.

    Attributes:
        step: what is done, or BUSY.
        address: where the joiner answers.
        member_id: etcd member id in hex.
    """

    step: Name
    address: Text | None = None
    member_id: Name | None = None


@dataclass(frozen=True)
class Admission(Message):
    """What a joiner is given in the end.

    Attributes:
        cluster_token: of the collective.
        view: the records of the voters and the joiner, see ``model.view``.
        member_id: etcd member id in hex, for one that is to vote.
        initial_cluster: etcd's list of members, for one that is to vote.
    """

    cluster_token: Text
    view: Annotated[str, within(1 << 20)]
    member_id: Text | None = None
    initial_cluster: Text | None = None


@dataclass(frozen=True)
class Learner(Message):
    """What a member is given that was made a learner for its promotion; as for a joiner."""

    cluster_token: Text
    member_id: Text
    initial_cluster: Text


@dataclass(frozen=True)
class GivenUp(Message):
    """Whether a learner that gives up its join was removed; a voter is not."""

    removed: bool


# Who does not know us, or whom we do not know ----------------------------------------------------


@dataclass(frozen=True)
class Replaced(Part):
    """A certificate (PEM), and its key's signature (hex) over the one that replaced it."""

    certificate: SmallCertificate
    signature: Annotated[str, within(256), _is_hexadecimal]


@dataclass(frozen=True)
class Former(Message):
    """The certificates that a server has shown before, oldest first, MOST_STEPS at most."""

    _refusal: ClassVar[str] = "a succession of certificates has no good {!r}"

    # A fresh server has none, and says so.
    steps: Annotated[tuple[Replaced, ...], holding(0, MOST_STEPS)] = field(default_factory=tuple)


@dataclass(frozen=True)
class RevocationQuestion(Message):
    """Whether the certificate of a fingerprint was revoked."""

    fingerprint: Name


@dataclass(frozen=True)
class RevocationAnswer(Message):
    """Whether it was, and its server deleted with it."""

    deleted: bool


# Between members -------------------------------------------------------------------------------


@dataclass(frozen=True)
class ServerStatus(Message):
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
        instance: tells this life of it from one of a copy of it, "" for an older release.
    """

    _refusal: ClassVar[str] = "a status is broken: it has no good {!r}"

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
    instance: str = ""

    @property
    def runs(self) -> bool:
        """Whether its etcd answers it; one that does not vote needs none."""
        return bool(self.member_id) or self.nonvoting

    @property
    def healthy(self) -> bool:
        """Whether its etcd follows or is a leader; without an etcd, whether it reaches one."""
        return self.runs and bool(self.leader)


@dataclass(frozen=True)
class Sync(Message):
    """Asks to wait until what was revoked up to a revision of the store is cut off."""

    revision: int


@dataclass(frozen=True)
class Synced(Message):
    """What is wanting for that still, for people; "" for nothing."""

    wants: Text


@dataclass(frozen=True)
class Remembered(Message):
    """What a voter that returns is told.

    Attributes:
        view: the records, see ``model.view``.
        member_id: the etcd member (hex) whose data is remembered, "" for none.
        term, index: raft numbers that it has had on its disk.
    """

    view: Annotated[str, within(MOST_VIEW)]
    member_id: Annotated[str, within(16)]
    term: Count
    index: Count


@dataclass(frozen=True)
class Myself(Message):
    """What a member is that asks.

    Attributes:
        record: its own, as it is stored.
        change: the kind of the change that is under way with it, "" for none.
    """

    record: Annotated[str, within(1 << 16)]
    change: Text = ""


@dataclass(frozen=True)
class NextCertificate(Message):
    """The certificate (PEM) to record beside the one in use; "" to revoke all but that one."""

    certificate: SmallCertificate


@dataclass(frozen=True)
class Recorded(Message):
    """A revision of the store that has what was asked for."""

    revision: Count


@dataclass(frozen=True)
class NewAddress(Message):
    """The address that a member wants.

    Attributes:
        address: an IP address.
        certificate: its next one (PEM), which names it.
        prepare: whether etcd is not to hear of it yet: the member asks again, in its turn.
        instance: what it says in its status, "" for an older release.
    """

    address: Address
    certificate: Certificate
    prepare: bool = False
    instance: str = ""


@dataclass(frozen=True)
class Whereabouts(Message):
    """Where members are, after addresses have changed.

    Attributes:
        places: an IP address by the name of a member; what is none is passed over.
        certificate: by which the etcd of the server that says this goes, PEM.
    """

    places: Annotated[Mapping[str, Any], holding(0, MOST_PLACES)]
    certificate: SmallCertificate = ""


@dataclass(frozen=True)
class EtcdCall(Message):
    """A call to etcd, by a server that has none; its path stands in that of the request.

    Attributes:
        body: as etcd gets it; ``policy.relaying`` says what may pass.
        seconds: until it must be answered; a watch has no such time.
    """

    _refusal: ClassVar[str] = "a call to etcd has no good {!r}"

    body: Mapping[str, Any]
    seconds: float | None = None


@dataclass(frozen=True)
class SentCommand(Message):
    """A command that a voter is to carry out; it is answered as over the control socket.

    Attributes:
        command: its name, see ``policy.roles``.
        arguments: as they came over the control socket.
    """

    command: Name
    arguments: Mapping[str, Any]


@dataclass(frozen=True)
class Greeting(Message):
    """What the software that serves a call is told first, by the daemon beside it.

    Attributes:
        name, address: of the server that calls.
        fingerprint: SHA-256 (hex) of the certificate that it has shown.
        until: when the call's time is up, by the monotonic clock, in seconds.
    """

    _refusal: ClassVar[str] = "a call has no good {!r}"

    name: Text
    address: Text
    fingerprint: Text
    until: float
