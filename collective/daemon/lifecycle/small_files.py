"""Are the small files of this server there, readable, whole and its own?

It changes nothing and decides nothing: a server that misses one, or has one that is damaged, rests
(``lives.go_on``). The state file itself is looked at before (``lives.without_state``).

Invariants:
  * Every other file that the daemon writes is in ``FILES``, or is made anew before it is read
    (``MADE_ANEW``), or has no content that is read (the lock files).
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from collective.daemon.lifecycle.state_file import PROMISES, VIEW
from collective.daemon.member import credentials
from collective.daemon.member.etcd_trust import CRL, TRUSTED
from collective.daemon.member.peer_locator import HINTS, read_hints
from collective.daemon.member.succession import Succession
from collective.errors import CollectiveError, ProtocolError
from collective.files import is_missing, read_private
from collective.model import high_water_mark
from collective.model.layout import Layout
from collective.model.plan import Plan
from collective.model.view import View

#: What is written whole from the records before etcd, the only reader, starts.
MADE_ANEW = (TRUSTED, CRL, "detour.pem")

_Read = Callable[[Layout, Plan, Path], None]
_Needs = Callable[[Layout, Plan], bool]


@dataclass(frozen=True)
class SmallFile:
    """One file.

    Attributes:
        folder: which folder of the layout it is in.
        name: of the file.
        read: raises a CollectiveError where it is damaged.
        needed: tells whether a server cannot go on where it is missing.
    """

    folder: str
    name: str
    read: _Read
    needed: _Needs

    def path(self, layout: Layout) -> Path:
        """Return where it is."""
        return Path(getattr(layout, self.folder), self.name)


def _always(_layout: Layout, _plan: Plan) -> bool:
    return True


def _never(_layout: Layout, _plan: Plan) -> bool:
    return False


def knew_others(layout: Layout) -> bool:
    """Tell whether etcd was last started with others that it lets in, as far as can be told."""
    try:
        return read_private(Path(layout.pki, TRUSTED)).count(b"BEGIN CERTIFICATE") > 1
    except FileNotFoundError:
        return False
    except CollectiveError:
        return True


def _knows_others(layout: Layout, plan: Plan) -> bool:
    # Without the records nobody can be told from anybody else, nor who was deleted.
    return plan.existing or knew_others(layout)


def _read_view(layout: Layout, plan: Plan, path: Path) -> None:
    if View.read(_text(path), plan.cluster_token) is None and _knows_others(layout, plan):
        raise ProtocolError("it is of another collective than the state file")


def _read_promises(_layout: Layout, plan: Plan, path: Path) -> None:
    high_water_mark.read(_text(path), plan.cluster_token)


def _read_whereabouts(_layout: Layout, _plan: Plan, path: Path) -> None:
    read_hints(read_private(path))


def _read_succession(_layout: Layout, _plan: Plan, path: Path) -> None:
    try:
        Succession.from_wire(json.loads(read_private(path)))
    except (ValueError, RecursionError) as error:
        raise ProtocolError(f"it cannot be read: {error!r}"[:200]) from None


def _read_certificate(_layout: Layout, plan: Plan, path: Path) -> None:
    name = credentials.identity_in(path).name
    if name != plan.name:
        raise ProtocolError(f"it is of {name}, this server is {plan.name}")


def _read_identity(layout: Layout, plan: Plan, path: Path) -> None:
    _read_certificate(layout, plan, path)
    try:
        view = View.from_json(_text(Path(layout.state, VIEW)), plan.cluster_token)
    except (FileNotFoundError, CollectiveError):
        return
    own = view.members.get(plan.name)
    shown = credentials.identity_in(path).fingerprint
    if own is None or shown in own.fingerprints:
        return
    succession = Succession.load(Path(layout.pki, credentials.SUCCESSION))
    if not succession.proves(plan.name, own.fingerprints, shown):
        raise ProtocolError(f"it is not the certificate that the members know {plan.name} by")


def _text(path: Path) -> str:
    return read_private(path).decode("utf-8", "replace")


def remembered(layout: Layout, name: str) -> tuple[str, bool]:
    """Return what is remembered without a state file: the collective, and whether it has others.

    Args:
        layout: where things are.
        name: of this server.
    """
    try:
        collective = str(json.loads(_text(Path(layout.state, VIEW)))["collective"])
    except (FileNotFoundError, ValueError, KeyError, TypeError, CollectiveError):
        collective = ""
    return collective, has_others(layout, name, collective)


def has_others(layout: Layout, name: str, collective: str) -> bool:
    """Tell whether a collective has other members, as far as can be told; if not, it may have."""
    try:
        view = View.read(_text(Path(layout.state, VIEW)), collective)
    except FileNotFoundError:
        view = None
    except CollectiveError:
        return True
    if view is not None:
        return bool(view.members.keys() - {name})
    try:
        promises = high_water_mark.read(_text(Path(layout.state, PROMISES)), collective)
    except FileNotFoundError:
        promises = {}
    except CollectiveError:
        return True
    return bool(promises.keys() - {name}) or knew_others(layout)


FILES = (
    SmallFile("pki", credentials.SERVER, _read_identity, _always),
    SmallFile("state", VIEW, _read_view, _knows_others),
    SmallFile("state", PROMISES, _read_promises, _never),
    SmallFile("state", HINTS, _read_whereabouts, _never),
    SmallFile("pki", credentials.NEXT, _read_certificate, _never),
    SmallFile("pki", credentials.SUCCESSION, _read_succession, _never),
)


def missing(layout: Layout, plan: Plan) -> list[str]:
    """Return the paths of the files that a server cannot go on without, and that are gone."""
    paths = [each.path(layout) for each in FILES if each.needed(layout, plan)]
    return [str(path) for path in paths if is_missing(path)]


def damage(layout: Layout, plan: Plan) -> str | None:
    """Return which file is damaged, how, and the way out; None where all are well."""
    for each in FILES:
        path = each.path(layout)
        try:
            each.read(layout, plan, path)
        except FileNotFoundError:
            continue
        except CollectiveError as error:
            told = described(path, error)
            needed = each.needed(layout, plan)
            return told if needed else f"{told}; without it this server goes on: move it away"
    return None


def described(path: Path, error: CollectiveError) -> str:
    """Return which file is damaged, and how."""
    known = str(path) in error.message
    return error.message if known else f"{path} is damaged: {error.message}"


def traces(layout: Layout) -> list[str]:
    """Return what is there of a server that has lived."""
    paths = [each.path(layout) for each in FILES]
    paths += [Path(layout.pki, name) for name in MADE_ANEW] + [Path(layout.etcd_log)]
    return [str(path) for path in paths if not is_missing(path)]
