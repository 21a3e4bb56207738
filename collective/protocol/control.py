"""What the commands ask over the control socket: a class for each kind, with its options.

The class of a request is said once: by the function of the daemon that takes it. The results
are documents without a class, but for the one that this package reads again: the others are
printed, by ``collective.render`` or as they are for ``--json``, and may be those of a voter of
another release, which has carried the command out.

Invariants:
  * An option that a command does not take is refused: what is passed over in silence, such as
    a ``dry_run``, would change what is done.
  * A field keeps its name and its kind, and a new one has a default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from collective.errors import InputError
from collective.model.typed import UnfitError, fields_of
from collective.protocol.messages import Part, check_format

_KINDS = {
    "bool": "true or false",
    "float": "a number",
    "str": "a text",
    "Mapping[str, str]": "an object of texts",
}

R = TypeVar("R", bound="Request")


@dataclass(frozen=True, kw_only=True)
class Request(Part):
    """A request; this one has no options but that of all, since its route says the rest.

    Attributes:
        json: whether the result is to be printed as JSON.
    """

    json: bool = False

    @classmethod
    def from_wire(cls: type[R], raw: object) -> R:
        """Read what another server passes on, of whatever release: it may have more fields.

        Raises:
            InputError: a field is wanting, or of another kind.
        """
        try:
            return cls(**fields_of(cls, raw if isinstance(raw, dict) else {}))
        except UnfitError as error:
            name, kind = error.args
            raise InputError(f"{name!r} must be {_KINDS[kind.removesuffix(' | None')]}") from None
        except KeyError as error:
            raise InputError(f"this command needs {error.args[0]!r}") from None

    @classmethod
    def from_client(cls: type[R], raw: Mapping[str, Any]) -> R:
        """Read what came over the control socket.

        Raises:
            ProtocolError: it is of a newer format.
            InputError: a field is wanting, of another kind, or not one of this command's.
        """
        check_format(raw)
        options = [each.name for each in fields(cls)]
        for name in sorted(raw.keys() - {"format", *options}):
            raise InputError(
                f"this command takes no {name[:80]!r}", f"it takes {', '.join(options)}"
            )
        return cls.from_wire(raw)


@dataclass(frozen=True, kw_only=True)
class InviteRequest(Request):
    """Whom to invite, with or without ``--replace``; with ``--revoke``, whom no more.

    Attributes:
        server: by name.
        nonvoting: whether it is never to vote; nothing to ``--revoke``.
        ttl: seconds that the token is good for, None for those of the settings; likewise.
        dry_run: whether nothing is to be changed.
    """

    server: str
    nonvoting: bool = False
    ttl: float | None = None
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class ListRequest(Request):
    """The invitations; ``dry_run`` changes nothing about that, and may be typed with it."""

    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class JoinRequest(Request):
    """A join, or what would hinder it.

    Attributes:
        server: the member to ask, by name or address, with an optional port.
        token: of the invitation; None to check without.
        force: nothing here, see ``AbortRequest``, but may be typed with it.
    """

    server: str
    token: str | None = field(default=None, repr=False)
    force: bool = False


@dataclass(frozen=True, kw_only=True)
class AbortRequest(Request):
    """To give a join up.

    Attributes:
        force: also if no member can be asked, and this server may be a voter.
    """

    force: bool = False


@dataclass(frozen=True, kw_only=True)
class DeleteRequest(Request):
    """Whom to delete.

    Attributes:
        server: by name; None for this server, which leaves.
        force: also if it runs and answers.
        dry_run: whether nothing is to be changed.
    """

    server: str | None = None
    force: bool = False
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class VoteRequest(Request):
    """Whom to promote, or demote.

    Attributes:
        server: by name.
        dry_run: whether nothing is to be changed.
    """

    server: str
    dry_run: bool = False


@dataclass(frozen=True, kw_only=True)
class ReaddressRequest(Request):
    """Where this server is, or where others may be.

    Attributes:
        address: of this server; None for that of the settings, or the one that it sends from.
        members: in place of that, an IP address by the name of a member.
    """

    address: str | None = None
    members: Mapping[str, str] | None = None
