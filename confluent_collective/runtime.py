"""One Confluent on the collective: it connects, takes up what is stored, and follows.

Invariants:
  * Confluent starts and reads without a daemon and without a quorum, on the files that it wrote
    last; it only changes nothing then.
  * A configuration that is not the collective's is moved aside before it is replaced (P7).
"""

from __future__ import annotations

import logging
import threading
import time
from contextlib import suppress
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
)
from confluent_collective.managers import Managers
from confluent_collective.own_files import OwnFiles
from confluent_collective.patience import again_and_again
from confluent_collective.seam import Seam
from confluent_collective.service import ConfluentStore, Steps

log = logging.getLogger(__name__)

_CONNECT_SECONDS = 10.0
_AGAIN_SECONDS = 2.0
_FIRST_SECONDS = 30.0
_HERE_SECONDS = 10
CERTIFICATE = "/etc/confluent/srvcert.pem"


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
        self._files = OwnFiles(Path(seam.cfm.ConfigManager._cfgdir))
        self._handle: collective.Collective | None = None
        self._store: ConfluentStore | None = None
        self._managers: Managers | None = None
        self._kept: list[Any] = []
        self._identity = ""
        self._is_stopped = False
        self._here: Any = None
        # Set where the key that says that Confluent runs here has gone.
        self._unsaid = threading.Event()
        # What is read by ``_feed``, and whether all of it is to be read again.
        self._watch: Any = None
        self._again = threading.Event()

    def hook(self) -> None:
        """Have ``startup`` called where Confluent would begin its own collective."""
        self._seam.hook_startup(self.startup)
        self._seam.hook_writes(self._files.note)

    def startup(self) -> None:
        """Begin, in Confluent's thread; returns with the collective's configuration, if it can.

        Raises:
            RefusedError: this server's Confluent cannot be part of this collective.
        """
        seam = self._seam
        seam.begin()
        seam.replace(self._begin_change, self._refuse_change, self._collinfo)
        try:
            watch, first = self._connect(_CONNECT_SECONDS)
        except RefusedError:
            raise
        except Exception as error:  # whatever it is: it must not keep Confluent from starting
            log.error("Confluent starts on its own files, and changes nothing: %s", error)
            threading.Thread(target=self._connect_later, name="confluent", daemon=True).start()
            return
        for _ in self._take(first, True):
            pass  # nobody watches nodes yet
        self._follow(watch)

    # Connecting --------------------------------------------------------------------------------

    def _connect(self, seconds: float) -> tuple[Any, list[Any]]:
        """Return a watch, and all that is stored, which it has told."""
        handle = collective.connect(self._root, seconds=seconds)
        try:
            store = ConfluentStore(self._seam.cfm, handle, self._check(handle))
            watch = handle.store.watch(ROOT, initial=True)
            first = watch.next_batch(_FIRST_SECONDS)
            self._handle, self._store = handle, store
            return watch, first
        except BaseException:
            handle.close(1.0)
            raise

    def _check(self, handle: collective.Collective) -> bytes:
        """Return what is stored of the master key, unless this Confluent cannot take part.

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
        wanted, self._identity = master_key.read_record(record)
        # Of a key, too, that is replaced, though the configuration be the same.
        self._files.keep_aside(f"{self._identity} {wanted}")
        if master_key.mark_of(self._seam.cfm) != wanted:
            others = [m.name for m in handle.members() if m.name != handle.name]
            master_key.fetch(handle, self._seam.cfm, wanted, others)
        self._kept.append(master_key.serve(handle, self._seam.cfm, wanted))
        return record

    def _connect_later(self) -> None:
        """Try again until there is a daemon; then have what is stored taken up."""
        flavour = self._seam.flavour
        assert flavour is not None
        told, watch, first = "", None, list[Any]()
        while watch is None:
            time.sleep(_AGAIN_SECONDS)
            try:
                watch, first = self._connect(_CONNECT_SECONDS)
            except Exception as error:
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
        before = set(self._store.here)
        try:
            yield from self._store.take(events, is_all)
        except Exception:
            log.exception("what is stored could not be taken up, and is read again")
            self._again.set()
            if self._watch is not None:
                self._watch.close()
            return
        if self._store.is_broken:
            return
        if is_all:
            self._seam.tell_ready()
            log.info("Confluent's configuration is that of the collective")
        if self._seam.cfm.get_myname() in before - self._store.here:
            self._unsaid.set()
        self._tell_members()

    def _is_another(self, events: Any, is_all: bool) -> bool:
        """Stop where the configuration was replaced, or this server is in another collective.

        What is here then stays, until Confluent is started anew and moves it aside.
        """
        told = [event.value for event in events if event.key == MASTER_KEY]
        if not told and not is_all:
            return False
        value = told[-1] if told else None
        with suppress(CollectiveError):  # one that cannot be read is another one
            if value is not None and master_key.read_record(value)[1] == self._identity:
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
        is_all, self._watch = False, watch
        while True:
            try:
                if self._again.is_set():
                    time.sleep(_AGAIN_SECONDS)
                    self._again.clear()
                    self._watch, is_all = handle.store.watch(ROOT, initial=True), True
                events = self._watch.next_batch()
            except ClosedError:
                if not self._again.is_set():
                    return
                continue
            except CollectiveError as error:
                log.error("all of the configuration is read again: %s", error)
                self._again.set()
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
        told = {n: about for n, about in self._store.members.items() if n in known}
        self._seam.tell_members(told)
        if self._managers is not None:
            self._managers.see(frozenset(self._store.here & known))

    def _announce(self, handle: collective.Collective) -> None:
        """Say where this Confluent is and which certificate it shows; and that it runs."""
        cfm, manager = self._seam.cfm, self._seam.manager
        member = handle.member(handle.name)
        try:
            certificate = manager.util.get_certificate_from_file(CERTIFICATE)
            fingerprint = manager.util.get_fingerprint(certificate)
        except (OSError, ValueError) as error:
            log.warning("Confluent has no certificate, so others do not connect to it: %s", error)
            fingerprint = ""
        about = {"name": handle.name, "address": member.address, "fingerprint": fingerprint}
        if not member.votes:
            about["role"] = "nonvoting"
        assert cfm is not None
        threading.Thread(
            target=self._keep_here, args=(handle, object_bytes(confluent=about)), daemon=True
        ).start()

    def _keep_here(self, handle: collective.Collective, value: bytes) -> None:
        """Keep a key under a session while this process lives, whatever happens to either."""

        def keep() -> None:
            self._unsaid.clear()
            if self._here is None or not self._here.is_held:
                self._here = handle.session(_HERE_SECONDS)
                self._here.when_lost(self._unsaid.set)
            handle.store.put(MEMBERS + handle.name, value)
            handle.store.put(HERE + handle.name, b"1", lease=self._here.lease)
            self._unsaid.wait()

        again_and_again(keep, "that Confluent runs here is said later", _AGAIN_SECONDS)

    # Changing ----------------------------------------------------------------------------------

    def _begin_change(self, function: str, arguments: tuple[Any, ...]) -> Steps:
        if not function.startswith("_rpc_master_"):
            raise RefusedError(f"{function} is not done where collectived runs the collective")
        self._refuse_change()
        assert self._store is not None
        return self._store.change(function, arguments)

    def _refuse_change(self) -> None:
        """Refuse a change where none can be made now.

        Raises:
            DegradedCollective: there is no quorum, or this Confluent does not follow.
            RefusedError: it has another configuration.
        """
        if self._is_stopped:
            raise DegradedCollective("nothing was changed: start Confluent anew")
        if self._store is None:
            raise DegradedCollective("nothing was changed: collectived was not reached yet")
        self._store.refuse()

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
