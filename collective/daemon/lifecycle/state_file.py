"""The state file: what this server is, replaced whole at every step.

It does not decide on steps; see ``collective.model.plan`` for what the file says.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from collective.errors import CollectiveError
from collective.files import make_private_folder, read_private, write_atomically
from collective.model import high_water_mark
from collective.model.high_water_mark import HighWaterMark
from collective.model.plan import Plan
from collective.model.view import View

SERVER = "server.json"
#: The records as last seen.
VIEW = "view.json"
PROMISES = "promises.json"


def known_name(folder: Path) -> str | None:
    """Return the name that this server has, None where it has none or that cannot be read.

    It makes no folder, and what is wrong with the file is told by whoever loads it.
    """
    try:
        return Plan.from_json(read_private(folder / SERVER).decode("utf-8", "replace")).name
    except (FileNotFoundError, CollectiveError):
        return None


class StateFile:
    """The folder ``state`` of one server.

    Attributes:
        path: of the state file itself.
    """

    def __init__(self, folder: Path) -> None:
        make_private_folder(folder)
        self._folder = folder
        self.path = folder / SERVER

    def load(self) -> Plan | None:
        """Return the plan, None on a fresh server.

        Raises:
            ProtocolError: the file is broken or of a newer release.
            AccessError: it cannot be read.
        """
        try:
            return Plan.from_json(read_private(self.path).decode("utf-8", "replace"))
        except FileNotFoundError:
            return None

    def save(self, plan: Plan) -> None:
        """Replace the plan; when this returns it survives a power cut."""
        write_atomically(self.path, plan.to_json().encode())

    def load_view(self, collective: str) -> View:
        """Return the records as this server last saw them; empty if it never did."""
        try:
            text = read_private(self._folder / VIEW).decode("utf-8", "replace")
            return View.from_json(text, collective)
        except FileNotFoundError:
            return View(0)

    def save_view(self, view: View, collective: str) -> None:
        """Remember the records: etcd tells nothing before it has found a quorum."""
        write_atomically(self._folder / VIEW, view.to_json(collective).encode())

    def load_promises(self, collective: str) -> dict[str, HighWaterMark]:
        """Return what members are known to have on their disks, by name."""
        try:
            text = read_private(self._folder / PROMISES).decode("utf-8", "replace")
            return high_water_mark.from_json(text, collective)
        except FileNotFoundError:
            return {}

    def save_promises(self, promises: Mapping[str, HighWaterMark], collective: str) -> None:
        """Remember what members have on their disks."""
        text = high_water_mark.to_json(promises, collective)
        write_atomically(self._folder / PROMISES, text.encode())
