"""The steps between two lives of this server, as file operations that can be repeated.

It starts and stops nothing. What each step finds done it does not do again, so after a power
cut the daemon runs the one that the state file names and goes on.

Invariants:
  * Data of a former life is moved aside, never deleted (P7), and the plan says where.
"""

from __future__ import annotations

import ipaddress
import logging
import os
import secrets
import shutil
from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import Any

from collective.daemon.lifecycle import small_files
from collective.daemon.lifecycle.rollback_check import objection_to
from collective.daemon.lifecycle.state_file import StateFile
from collective.daemon.member import credentials
from collective.daemon.settings import Settings
from collective.errors import (
    AccessError,
    CollectiveError,
    InputError,
    RefusedError,
    UnreachableError,
)
from collective.failpoints import Step, reached
from collective.files import (
    ASIDE,
    content_of,
    is_missing,
    is_mount,
    set_aside,
    set_data_aside,
)
from collective.model.layout import Layout
from collective.model.listen import together
from collective.model.names import (
    certified_addresses,
    claimed_addresses,
    parse_reachable_address,
    peer_url,
)
from collective.model.plan import Mode, Plan
from collective.policy.addressing import doubt_of
from collective.policy.transitions import RESUMED_BY, Event, FileStep, apply, transition
from collective.protocol.interfaces import (
    interface_of,
    is_local,
    is_routed,
    local_addresses,
    source_towards,
)
from collective.protocol.resolve import resolve

log = logging.getLogger(__name__)

_RESOLVE_SECONDS = 5.0
_OWN_NAME = "127.0.1.1"
#: Where data of etcd, and certificates, that an event moves aside have their reason from.
_REASONS: Mapping[Event, tuple[str, str]] = {
    Event.ALONE: ("unknown-data", "replaced"),
    Event.ADOPTED: ("before-join", "before-join"),
    Event.RESTED: ("removed", "removed"),
    Event.SHED: ("demoted", ""),
}


def own_address(settings: Settings) -> str | None:
    """Return the IP address that the settings give this server, None when they give none.

    Of the addresses of a name the first that is on this machine counts, a loopback address
    last: Debian's installer writes the machine's own name beside 127.0.1.1 into /etc/hosts
    (Debian Reference, section 5.1.1). A name that has no other one gives none.

    Raises:
        UnreachableError: the setting is a name that does not resolve.
    """
    if settings.address is None:
        return None
    answers = resolve(settings.address, settings.hosts, _RESOLVE_SECONDS)
    found = [address for answer in answers if (address := _usable(answer))]
    if not found:
        raise UnreachableError(f"the name {settings.address} has no address")
    if found == [_OWN_NAME] and settings.address != _OWN_NAME:
        return None
    if len(found) == 1:
        return found[0]
    return min(found, key=lambda a: (not is_local(a), ipaddress.ip_address(a).is_loopback))


def _usable(answer: str) -> str:
    """Return an address that a name leads to, "" for one that is no use to other servers."""
    try:
        return parse_reachable_address(answer)
    except InputError:
        return ""


def guessed_address() -> str:
    """Return the address that this machine would send from, loopback if it has no network.

    Neither address below is anybody's: they are for documentation (RFC 5737, RFC 3849). A
    machine without a way to them, since it has no default route, has an address all the same.
    """
    ways = (source_towards(address) for address in ("192.0.2.1", "2001:db8::1"))
    found = [address for address in ways if address is not None]
    found += sorted(local_addresses(), key=lambda a: ":" in a)
    usable = [a for a in found if not ipaddress.ip_address(a).is_loopback]
    return min(usable, key=lambda a: bool(_doubt(a)), default="127.0.0.1")


def _doubt(address: str) -> str | None:
    interface = interface_of(address)
    routed = interface is None or is_routed(interface, ipaddress.ip_address(address).version)
    return doubt_of(address, interface, routed)


def doubted_address(settings: Settings, plan: Plan) -> str | None:
    """Return what there is to say of an address that this server has found by itself, or None."""
    if settings.address is not None:
        return None
    doubt = _doubt(plan.address)
    if doubt is None:
        return None
    return (
        f"other servers may not find this one: its address {doubt}; set 'address' in the settings "
        "file, and run 'collective readdress'"
    )


def certified_here(address: str) -> list[str]:
    """Return what a certificate of this server is made out for: all that it may send from."""
    return certified_addresses(claimed_addresses(address, local_addresses()))


def listen_addresses(settings: Settings, address: str) -> tuple[str, ...]:
    """Return the addresses to listen on: as set, or the one set as ours, or all."""
    if settings.listen is not None:
        return settings.listen
    if settings.address is not None:
        return (address,)
    return ("::",) if ipaddress.ip_address(address).version == 6 else ("0.0.0.0",)


def begun_address(settings: Settings, plan: Plan) -> str:
    """Return the address that this server was changing to, or "".

    A change is given up where that address is gone again, or the settings give another one.

    Raises:
        UnreachableError: the name that the settings give cannot be looked up.
    """
    if not plan.moving_to or not is_local(plan.moving_to):
        return ""
    return plan.moving_to if own_address(settings) in (None, plan.moving_to) else ""


def next_address(settings: Settings, plan: Plan) -> str:
    """Return the address that this server is to have instead of the plan's, or "".

    That is the one that it was changing to, or the one that the settings give now, if this
    machine has it.
    """
    try:
        wanted = begun_address(settings, plan) or own_address(settings) or ""
    except UnreachableError as error:
        log.warning("the setting 'address' cannot be used now: %s", error)
        return ""
    return wanted if wanted != plan.address and wanted and is_local(wanted) else ""


def all_listen_addresses(settings: Settings, plan: Plan) -> tuple[str, ...]:
    """Return the addresses to listen on, while an address is being changed those for both."""
    wanted = next_address(settings, plan)
    if not wanted:
        return listen_addresses(settings, plan.address)
    former = listen_addresses(settings, plan.address)
    if former == (plan.address,) and not is_local(plan.address):
        former = ()
    return together(listen_addresses(settings, wanted), former)


def begin_alone(
    layout: Layout,
    state: StateFile,
    settings: Settings,
    now: datetime,
    former: Plan | None = None,
) -> Plan:
    """Make this server a collective of one: a certificate, and a plan for a new etcd.

    Data that is in the way is moved aside: it belongs to no state file, so nobody knows whose
    it is.
    """
    address = own_address(settings) or guessed_address()
    fields = {
        "name": settings.name,
        "address": address,
        "door_port": settings.port,
        "peer_port": settings.peer_port,
        "cluster_token": secrets.token_hex(16),
        "initial_cluster": f"{settings.name}={peer_url(address, settings.peer_port)}",
        "existing": False,
    }
    if former is None:
        # First of all: who finds a certificate, and no state file, has lost that.
        state.save(apply(None, Event.ALONE, **fields))
    plan = _follow(layout, former, Event.ALONE, now, **fields)
    state.save(plan)
    log.info("this server is a collective of one name=%s address=%s", plan.name, address)
    return plan


def adopt(layout: Layout, state: StateFile, plan: Plan, now: datetime) -> Plan:
    """Move the data of the former life aside; the certificate stays what it was.

    Args:
        layout: where things are.
        state: the state file, which says ADOPTING already.
        plan: what it says.
        now: the time, for the names of what is moved aside.

    Returns:
        The plan of the learner, saved.
    """
    pki = Path(layout.pki)
    if credentials.name_in(pki) != plan.name:
        # A lost server was taken in with the certificate that it had got for that.
        credentials.copy(_makeshift(layout), pki)
    learner = _follow(layout, plan, Event.ADOPTED, now)
    state.save(learner)
    return learner


def go_on(layout: Layout, state: StateFile, plan: Plan, now: datetime) -> Plan:
    """Finish the step between two lives that a crash or a full disk cut off, and judge the data.

    Data that is not what this server left is not touched; it rests until that is put right.

    Returns:
        The plan of a server that can live, or rests; saved.

    Raises:
        CollectiveError: data cannot be moved aside; nothing is lost, and it can be tried again.
    """
    event = RESUMED_BY.get(plan.mode)
    if event is not None:
        again = {Event.ADOPTED: adopt, Event.RESTED: rest, Event.SHED: shed_vote}[event]
        plan = again(layout, state, plan, now)
    if plan.mode is Mode.REMOVED:
        return plan
    try:
        why = (
            data_is_lost(layout, plan)
            or small_files.damage(layout, plan)
            or _own_objection(layout, state, plan)
        )
    except AccessError as error:
        why = error.message
    if why is not None:
        return lose(state, plan, why)
    return find(layout, state, plan) if plan.mode is Mode.LOST else plan


def _own_objection(layout: Layout, state: StateFile, plan: Plan) -> str | None:
    """Return what this server itself remembers against the data; others are asked later."""
    own = state.load_promises(plan.cluster_token).get(plan.name)
    view = state.load_view(plan.cluster_token)
    return objection_to(layout, plan, view, {} if own is None else {plan.name: own})


def lose(state: StateFile, plan: Plan, why: str) -> Plan:
    """Write down that this member cannot go on with the data that is here; nothing is moved.

    Returns:
        The plan of a lost server, saved.
    """
    log.error("this server is lost: %s", why)
    lost = apply(plan, Event.LOST, reason=why)
    if lost != plan:
        try:
            state.save(lost)
        except CollectiveError as error:
            log.error("it cannot be written down that this server is lost: %s", error)
    return lost


def find(layout: Layout, state: StateFile, plan: Plan) -> Plan:
    """Make a lost server the member again that it was: its data is back.

    A server that was no voter goes on joining; one that was taken in without a vote has done so.
    """
    voted = plan.name in state.load_view(plan.cluster_token).voters
    found = apply(plan, Event.FOUND if voted else Event.FOUND_JOINING)
    state.save(found)
    log.warning("the data of this server is back")
    return found


def usable_pki(layout: Layout, plan: Plan) -> Path:
    """Return the folder of certificates to open the door with.

    A server that rests may have lost those too. It gets some to be invited with, beside the place
    of the real ones, which may be put back.
    """
    pki = Path(layout.pki)
    rests = plan.mode in (Mode.LOST, Mode.REMOVED)
    if not rests or credentials.name_in(pki) == plan.name:
        return pki
    makeshift = _makeshift(layout)
    if credentials.name_in(makeshift) != plan.name:
        shutil.rmtree(makeshift, ignore_errors=True)
        credentials.prepare_fresh(makeshift, plan.name, certified_here(plan.address))
        credentials.install(makeshift)
    return makeshift


def _makeshift(layout: Layout) -> Path:
    return Path(layout.run) / "pki"


def begin_rest(layout: Layout, state: StateFile, plan: Plan, reason: str, now: datetime) -> Plan:
    """Write down that this server was removed, with the certificates of its rest prepared.

    Returns:
        The plan of a server that leaves, saved; ``rest`` goes on from it.
    """
    leaving = _follow(layout, plan, Event.PUT_OUT, now, reason=reason)
    state.save(leaving)
    reached(Step.REMOVED_LEAVING)
    return leaving


def rest(layout: Layout, state: StateFile, plan: Plan, now: datetime) -> Plan:
    """Make this a server that was removed: old data aside, and certificates to be invited with.

    Returns:
        The plan of a server that rests, saved.
    """
    rested = _follow(layout, plan, Event.RESTED, now)
    reached(Step.REMOVED_ASIDE)
    state.save(rested)
    return rested


def shed_vote(layout: Layout, state: StateFile, plan: Plan, now: datetime) -> Plan:
    """Move the data of an etcd that is no member any more aside.

    Args:
        layout: where things are.
        state: the state file, which says NONVOTING already.
        plan: what it says.
        now: the time, for the names of what is moved aside.

    Returns:
        The plan, saved with where the data has gone.
    """
    shed = _follow(layout, plan, Event.SHED, now)
    if shed != plan:
        state.save(shed)
    return shed


def places_aside(layout: Layout) -> tuple[str, ...]:
    """Return all that was ever moved aside here, oldest first.

    It is read off the disk, since a power cut may come after a move and before the state file.
    """
    # Where etcd's data is on a disk of its own, it is set aside there.
    roots = (Path(layout.aside), Path(layout.etcd_data, ASIDE))
    places = (place for root in roots for place in root.glob("*/*"))
    return tuple(str(p) for p in sorted(places, key=lambda p: (p.parent.stat().st_mtime_ns, p)))


def _follow(layout: Layout, plan: Plan | None, event: Event, now: datetime, **fields: Any) -> Plan:
    """Take the steps of a change; return the plan that is to be saved then."""
    following = apply(plan, event, **fields)
    for step in transition(plan, event).steps:
        _take(step, layout, following, event, now)
    return replace(following, aside=places_aside(layout))


def _take(step: FileStep, layout: Layout, plan: Plan, event: Event, now: datetime) -> None:
    pki = Path(layout.pki)
    if step is FileStep.PREPARE:
        credentials.prepare_fresh(pki, plan.name, certified_here(plan.address))
    elif step is FileStep.ASIDE:
        path = Path(layout.etcd_data)
        if path.exists():
            _say(path, set_data_aside(path, Path(layout.aside), _REASONS[event][0], now))
    elif credentials.incoming(pki).exists():
        _clear(pki, layout, _REASONS[event][1], now)
        credentials.install(pki)


def without_state(layout: Layout, state: StateFile, settings: Settings) -> Plan | None:
    """Return the plan of a lost server where the state file does not say what this server is.

    That is where it is damaged, another server's, or gone with other files there. Nothing is
    written then, so that the server is found again when the file is put back.

    Returns:
        None where the state file is well, or the server is fresh.
    """
    try:
        plan = state.load()
    except CollectiveError as error:
        return _unknown(layout, settings, small_files.described(state.path, error))
    if plan is None:
        left = small_files.traces(layout)
        gone = f"there is no {state.path}, but there is {' and '.join(left)}"
        return _unknown(layout, settings, gone) if left else None
    other = plan.name != settings.name and plan.mode is not Mode.REMOVED
    if other and credentials.name_in(Path(layout.pki)) == settings.name:
        foreign = f"it is of {plan.name}, and the certificate here is of {settings.name}"
        return _unknown(layout, settings, f"{state.path} is damaged: {foreign}")
    return None


def _unknown(layout: Layout, settings: Settings, why: str) -> Plan:
    """Return the plan of a server that is lost since nothing says which member it was."""
    log.error("this server is lost: %s", why)
    collective, others = small_files.remembered(layout, settings.name)
    return apply(
        None,
        Event.LOST,
        name=settings.name,
        address=own_address(settings) or guessed_address(),
        door_port=settings.port,
        peer_port=settings.peer_port,
        cluster_token=collective,
        initial_cluster="",
        existing=others,
        reason=why,
    )


def keep_state(layout: Layout, state: StateFile, plan: Plan | None, now: datetime) -> None:
    """Move a state file aside that does not say what this server is: it is to be replaced."""
    try:
        same = state.load() in (None, plan)
    except CollectiveError:
        same = False
    if not same:
        _clear(state.path, layout, "damaged-state", now)


def check_plan(plan: Plan, settings: Settings) -> None:
    """Refuse to run a member under settings that do not fit it.

    Raises:
        RefusedError: the name was changed; that needs a delete and a new join.
    """
    if plan.name != settings.name and plan.mode is not Mode.REMOVED:
        raise RefusedError(
            f"this server is {plan.name} in its collective, but its name is now {settings.name}",
            f"set name = {plan.name} in the settings file; to rename a server, delete it and "
            "invite it under the new name",
        )


def first_start_was_cut(layout: Layout, plan: Plan) -> bool:
    """Tell whether a collective of one has no certificate yet, or an etcd that never answered.

    Killed between making its log and the first entry in it, an etcd never elects itself. Nobody
    can have written to it: invitations wait for our own record, which comes later.
    """
    fresh = plan.mode is Mode.MEMBER and not plan.existing and not plan.started
    path = Path(layout.etcd_data)
    has_data = path.exists() and (not path.is_dir() or bool(content_of(path)))
    return fresh and (has_data or is_missing(Path(layout.pki, credentials.SERVER)))


def data_is_lost(layout: Layout, plan: Plan) -> str | None:
    """Return what of a member's data is gone that was there, None when all is there."""
    if plan.mode not in (Mode.MEMBER, Mode.JOINING, Mode.NONVOTING, Mode.LOST):
        return None
    no_log = plan.started and is_missing(Path(layout.etcd_log))
    gone = [layout.etcd_log] if no_log else []
    gone += small_files.missing(layout, plan)
    if not gone:
        return None
    return f"the data of {plan.name} is gone: there is no {' and no '.join(gone)}"


def _clear(path: Path, layout: Layout, reason: str, now: datetime) -> None:
    if path.is_symlink():
        raise _fixed(path)
    if path.exists():
        _say(path, set_aside(path, Path(layout.aside), reason, now))


def _say(path: Path, place: Path | None) -> None:
    if place is not None:
        log.warning("data was moved aside from=%s to=%s", path, place)


def _fixed(path: Path) -> RefusedError:
    return RefusedError(
        f"{path} is a link or a mount point: it could not be replaced as a whole",
        f"make it a plain folder, with what is in it; {path.parent} itself may be either",
    )


def check_replaceable(layout: Layout) -> None:
    """See that what a join, and a deletion later, move aside can be moved.

    Raises:
        RefusedError: something is there that cannot.
        AccessError: the right to is missing.
    """
    pki, data = Path(layout.pki), Path(layout.etcd_data)
    if pki.is_symlink() or is_mount(pki):
        raise _fixed(pki)
    if (data.is_symlink() or data.exists()) and not data.is_dir():
        raise RefusedError(f"{data} is no folder", "move it away, or mend where it leads to")
    for folder in (path for path in (data, pki) if path.is_dir()):
        if not os.access(folder, os.W_OK | os.X_OK):
            raise AccessError(
                f"cannot write in {folder}: permission denied", "see to whom it belongs"
            )
