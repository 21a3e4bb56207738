"""One Confluent on the collective: it connects, takes up what is stored, and follows.

Invariants:
  * Confluent starts and reads without a daemon and without a quorum, on the files that it wrote
    last; it only changes nothing then.
  * A configuration that is not the collective's is moved aside before it is replaced (P7).
"""

from __future__ import annotations

import logging
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import collective
from collective.errors import (
    ClosedError,
    CollectiveError,
    DegradedCollective,
    NotReadyError,
    RefusedError,
)
from confluent_collective import master_key
from confluent_collective.documents import (
    CHANGE_KEY,
    HERE,
    MASTER_KEY,
    MEMBERS,
    ROOT,
    object_bytes,
    read_object,
)
from confluent_collective.managers import Managers
from confluent_collective.seam import Seam
from confluent_collective.service import ConfluentStore, Steps

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 10.0
_AGAIN_SECONDS = 2.0
_FIRST_SECONDS = 30.0
_HERE_SECONDS = 10
CERTIFICATE = "/etc/confluent/srvcert.pem"
_MARK = "collective-of"
_NOT_MOVED = {"myname", _MARK}


class ConfluentRuntime:
    """What connects Confluent's modules and the collective."""

    def __init__(self, seam: Seam, root: str | None = None) -> None:
        """Take Confluent's modules.

        Args:
            seam: holds them.
            root: what COLLECTIVE_ROOT is for the daemon; None for what the environment says.
        """
        self._seam = seam
        self._root = root
        self._handle: collective.Collective | None = None
        self._store: ConfluentStore | None = None
        self._managers: Managers | None = None
        self._kept: list[Any] = []
        self._identity = ""
        self._is_stopped = False
        self._here: Any = None

    def hook(self) -> None:
        """Have ``startup`` called where Confluent would begin its own collective."""
        self._seam.hook_startup(self.startup)

    def startup(self) -> None:
        """Begin, in Confluent's thread; returns with the collective's configuration, if it can.

        Raises:
            RefusedError: this server's Confluent cannot be part of this collective.
        """
        seam = self._seam
        seam.begin()
        seam.replace(self._begin_change, self._collinfo)
        try:
            watch = self._connect(_CONNECT_SECONDS)
        except RefusedError:
            raise
        except CollectiveError as error:
            log.error("Confluent starts on its own files, and changes nothing: %s", error)
            threading.Thread(target=self._connect_later, name="confluent", daemon=True).start()
            return
        first = watch.next_batch(_FIRST_SECONDS)
        for _ in self._take(first, True):
            pass  # nobody watches nodes yet
        self._follow(watch)

    # Connecting --------------------------------------------------------------------------------

    def _connect(self, seconds: float) -> Any:
        handle = collective.connect(self._root, seconds=seconds)
        try:
            self._check(handle)
            store = ConfluentStore(self._seam.cfm, handle)
            self._handle, self._store = handle, store
            return handle.store.watch(ROOT, initial=True)
        except BaseException:
            handle.close(1.0)
            raise

    def _check(self, handle: collective.Collective) -> None:
        """Raise unless this Confluent can be part of the collective.

        Raises:
            RefusedError: it cannot, and why.
        """
        name = self._seam.cfm.get_myname()
        if name != handle.name:
            raise RefusedError(
                f"this server is {handle.name} in the collective, and {name} to Confluent",
                f"write {handle.name} into /etc/confluent/cfg/myname",
            )
        record = handle.store.get(MASTER_KEY)
        if record is None or handle.store.get(CHANGE_KEY) is None:
            raise RefusedError(
                "the collective holds no configuration of Confluent yet",
                "import that of one server first: see docs/confluent.md",
            )
        about = read_object(MASTER_KEY, record)
        wanted = about["mark"]
        self._identity = about["identity"]
        self._move_aside(self._identity)
        if master_key.mark_of(self._seam.cfm) != wanted:
            others = [m.name for m in handle.members() if m.name != handle.name]
            master_key.fetch(handle, self._seam.cfm, wanted, others)
        self._kept.append(master_key.serve(handle, self._seam.cfm, wanted))

    def _connect_later(self) -> None:
        """Try again until there is a daemon; then have what is stored taken up."""
        flavour = self._seam.flavour
        assert flavour is not None
        told, watch, first = "", None, []
        while watch is None:
            time.sleep(_AGAIN_SECONDS)
            try:
                watch = self._connect(_CONNECT_SECONDS)
                first = watch.next_batch(_FIRST_SECONDS)
            except CollectiveError as error:
                if str(error) != told:
                    log.error("Confluent still changes nothing: %s", error)
                told, watch = str(error), None
        flavour.queue(lambda: self._take(first, True))
        self._follow(watch)

    # Following ---------------------------------------------------------------------------------

    def _take(self, events: Any, is_all: bool) -> Any:
        """Take a batch up, unless it is that of another configuration than the one begun with."""
        assert self._store is not None
        if self._is_stopped or self._is_another(events, is_all):
            return
        yield from self._store.take(events, is_all)
        if is_all:
            self._seam.tell_ready()
            log.info("Confluent's configuration is that of the collective")
        self._tell_members()

    def _is_another(self, events: Any, is_all: bool) -> bool:
        """Stop where the configuration was replaced, or this server is in another collective.

        What is here then stays, until Confluent is started anew and moves it aside.
        """
        told = [event.value for event in events if event.key == MASTER_KEY]
        if not told and not is_all:
            return False
        value = told[-1] if told else None
        if value is not None and read_object(MASTER_KEY, value)["identity"] == self._identity:
            return False
        self._is_stopped = True
        self._seam.tell_quorum(False)
        log.error("the collective has another configuration now: start Confluent anew")
        return True

    def _follow(self, watch: Any) -> None:
        handle, store, flavour = self._handle, self._store, self._seam.flavour
        assert handle is not None
        assert store is not None
        assert flavour is not None
        self._announce(handle)
        threading.Thread(target=self._feed, args=(watch,), name="confluent", daemon=True).start()
        self._managers = Managers(handle, self._seam, flavour)
        self._kept.append(
            handle.on_quorum_change(
                lambda state: flavour.queue(lambda: self._tell_quorum(state.holds)), initial=True
            )
        )
        self._kept.append(
            handle.on_member_change(lambda _: flavour.queue(self._tell_members_later))
        )

    def _feed(self, watch: Any) -> None:
        """Hand on what changes, in a thread of its own."""
        flavour, handle = self._seam.flavour, self._handle
        assert flavour is not None
        assert handle is not None
        is_all = False
        while True:
            try:
                events = watch.next_batch()
            except ClosedError:
                return
            except CollectiveError as error:
                log.error("all of the configuration is read again: %s", error)
                watch, is_all = handle.store.watch(ROOT, initial=True), True
                continue
            flavour.queue(lambda e=events, a=is_all: self._take(e, a))  # type: ignore[misc]
            is_all = False

    def _tell_quorum(self, holds: bool) -> Any:
        self._seam.tell_quorum(holds and not self._is_stopped)
        yield from ()

    def _tell_members_later(self) -> Any:
        self._tell_members()
        yield from ()

    def _tell_members(self) -> None:
        assert self._handle is not None
        assert self._store is not None
        try:
            known = {member.name for member in self._handle.members()}
        except (NotReadyError, ClosedError):
            return
        told = {n: about["confluent"] for n, about in self._store.members.items() if n in known}
        self._seam.tell_members(told)
        if self._managers is not None:
            self._managers.see(frozenset(self._store.here & known))

    def _announce(self, handle: collective.Collective) -> None:
        """Say where this Confluent is and which certificate it shows; and that it runs."""
        cfm, manager = self._seam.cfm, self._seam.manager
        member = handle.member(handle.name)
        certificate = manager.util.get_certificate_from_file(CERTIFICATE)
        about = {
            "name": handle.name,
            "address": member.address,
            "fingerprint": manager.util.get_fingerprint(certificate),
        }
        if not member.votes:
            about["role"] = "nonvoting"
        assert cfm is not None
        threading.Thread(
            target=self._keep_here, args=(handle, object_bytes(confluent=about)), daemon=True
        ).start()

    def _keep_here(self, handle: collective.Collective, value: bytes) -> None:
        """Keep a key under a session while this process lives, whatever happens to sessions."""
        while True:
            lost = threading.Event()
            try:
                session = handle.session(_HERE_SECONDS)
                session.when_lost(lost.set)
                handle.store.put(MEMBERS + handle.name, value)
                handle.store.put(HERE + handle.name, b"1", lease=session.lease)
            except ClosedError:
                return
            except CollectiveError as error:
                log.info("that Confluent runs here is said later: %s", error)
                time.sleep(_AGAIN_SECONDS)
                continue
            self._here = session
            lost.wait()

    # Changing ----------------------------------------------------------------------------------

    def _begin_change(self, function: str, arguments: tuple[Any, ...]) -> Steps:
        if not function.startswith("_rpc_master_"):
            raise RefusedError(f"{function} is not done where collectived runs the collective")
        if self._is_stopped:
            raise DegradedCollective("nothing was changed: start Confluent anew")
        if self._store is None:
            raise DegradedCollective("nothing was changed: collectived was not reached yet")
        return self._store.change(function, arguments)

    # Telling -----------------------------------------------------------------------------------

    def _collinfo(self) -> dict[str, Any]:
        """Return what Confluent's own command shows, from what is known here."""
        handle, store = self._handle, self._store
        if handle is None or store is None:
            name = self._seam.cfm.get_myname()
            return {"leader": name, "active": [], "offline": [], "nonvoting": [], "quorum": False}
        members = handle.members()
        others = [member.name for member in members if member.name != handle.name]
        return {
            "leader": handle.name,
            "active": [name for name in others if name in store.here],
            "offline": [name for name in others if name not in store.here],
            "nonvoting": [member.name for member in members if member.role == "nonvoting"],
            "quorum": handle.last_quorum.holds,
        }

    # What was here before ------------------------------------------------------------------------

    def _move_aside(self, identity: str) -> None:
        """Copy a configuration aside that is another one than the collective's, once.

        Which one it is stands in a file beside it, and is written before anything is replaced.

        Args:
            identity: of the collective's configuration.
        """
        folder = Path(self._seam.cfm.ConfigManager._cfgdir)
        mark = folder / _MARK
        if mark.exists() and mark.read_text("ascii").strip() == identity:
            return
        kept = [
            each for each in folder.glob("*") if each.is_file() and each.name not in _NOT_MOVED
        ]
        if kept:
            aside = folder.with_name(f"{folder.name}.aside-{time.strftime('%Y%m%dT%H%M%S')}")
            aside.mkdir(mode=0o700)
            for each in kept:
                shutil.copy2(each, aside / each.name)
            log.warning("the configuration that was here before is in %s", aside)
        part = folder / f"{_MARK}.part"
        part.write_text(identity + "\n", "ascii")
        part.replace(mark)
