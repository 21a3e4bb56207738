"""Where every file, folder and socket of one server lies.

It touches no file. It is a plain class with text paths, without pathlib and dataclasses, since
the command line builds it at every start; others wrap a path in ``Path`` themselves.

Invariants:
  * With COLLECTIVE_ROOT set, every path is under that folder; without it, none is.
  * Both sockets can be bound: their paths fit in a unix socket address.
"""

from __future__ import annotations

import os
import posixpath

from collective.errors import InputError

# Not typing.TYPE_CHECKING: typing and collections.abc would cost the command a millisecond each.
TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

ROOT_VARIABLE = "COLLECTIVE_ROOT"

# Not below /var/lib/confluent, which may be one folder for all members, nor below /run/confluent,
# which systemd removes whenever confluent.service stops.
_DATA = "/var/lib/confluent-collective"
_RUN = "/run/confluent-collective"

#: Bytes of a socket path on Linux: sun_path has 108, one of them for the end (unix(7)).
SOCKET_PATH_LIMIT = 107


class Layout:
    """The paths of one server.

    Attributes:
        settings_file: the settings.
        data: what has to survive a reboot; 0700.
        run: what a reboot may clear.
    """

    __slots__ = ("data", "run", "settings_file")

    def __init__(self, settings_file: str, data: str, run: str) -> None:
        self.settings_file = settings_file
        self.data = data
        self.run = run

    @classmethod
    def from_environment(cls, environ: Mapping[str, str]) -> Layout:
        """Return the layout that COLLECTIVE_ROOT asks for, or that of an installed system.

        Args:
            environ: the environment of the process.

        Raises:
            InputError: COLLECTIVE_ROOT is set, but empty, not absolute, the root of the file
                system, or too long for the sockets.
        """
        root = environ.get(ROOT_VARIABLE)
        if root is None:
            return cls(
                settings_file="/etc/confluent/collective.conf",
                data=_DATA,
                run=_RUN,
            )
        _check_root(root)
        layout = cls(
            settings_file=posixpath.join(root, "etc/collective.conf"),
            data=posixpath.join(root, "var"),
            run=posixpath.join(root, "run"),
        )
        _check_sockets(layout)
        return layout

    @property
    def former(self) -> Layout | None:
        """Where releases up to 0.2 had the folders of an installed system, None under a root."""
        if self.data != _DATA:
            return None
        return Layout(
            self.settings_file, "/var/lib/confluent/collective", "/run/confluent/collective"
        )

    def __repr__(self) -> str:
        return f"Layout({self.settings_file!r}, {self.data!r}, {self.run!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Layout):
            return NotImplemented
        return self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def _key(self) -> tuple[str, str, str]:
        return self.settings_file, self.data, self.run

    @property
    def etcd_data(self) -> str:
        """The data folder of etcd."""
        return posixpath.join(self.data, "etcd")

    @property
    def etcd_log(self) -> str:
        """The folder of etcd's write-ahead log, which is there once etcd has started."""
        return posixpath.join(self.etcd_data, "member", "wal")

    @property
    def pki(self) -> str:
        """The folder of certificates, keys and the revocation list."""
        return posixpath.join(self.data, "pki")

    @property
    def state(self) -> str:
        """The folder of what the daemon itself remembers."""
        return posixpath.join(self.data, "state")

    @property
    def backups(self) -> str:
        """The folder of snapshots."""
        return posixpath.join(self.data, "backups")

    @property
    def aside(self) -> str:
        """The folder that replaced data is moved into."""
        return posixpath.join(self.data, "set-aside")

    @property
    def control_socket(self) -> str:
        """The socket between the command and the daemon."""
        return posixpath.join(self.run, "control.sock")

    @property
    def etcd_run(self) -> str:
        """The working directory of etcd; 0700, since it guards etcd's client socket."""
        return posixpath.join(self.run, "etcd")

    @property
    def etcd_socket(self) -> str:
        """The client socket of etcd: the file that it makes for the URL unix://etcd:1."""
        return posixpath.join(self.etcd_run, "etcd:1")

    @property
    def calls(self) -> str:
        """The folder of who serves calls from other servers, a socket each; 0700."""
        return posixpath.join(self.run, "calls")

    @property
    def calls_door(self) -> str:
        """The socket through which software here calls other servers; no service has a dot."""
        return posixpath.join(self.calls, ".door")

    @property
    def daemon_lock(self) -> str:
        """The file that the one daemon of this data folder holds locked."""
        return posixpath.join(self.data, "daemon.lock")

    @property
    def etcd_lock(self) -> str:
        """The file that the one etcd of this data folder holds locked."""
        return posixpath.join(self.data, "etcd.lock")


def _check_root(root: str) -> None:
    if not root.startswith("/"):
        raise InputError(
            f"{ROOT_VARIABLE} must be an absolute path, found {root[:80]!r}",
            "unset it to use the folders of the system" if not root else None,
        )
    if not posixpath.normpath(root).strip("/"):
        raise InputError(f"{ROOT_VARIABLE} must be a folder of its own, found {root[:80]!r}")


def _check_sockets(layout: Layout) -> None:
    sockets = (layout.control_socket, layout.etcd_socket, layout.calls_door)
    longest = max(sockets, key=lambda p: len(os.fsencode(p)))
    length = len(os.fsencode(longest))
    if length > SOCKET_PATH_LIMIT:
        excess = length - SOCKET_PATH_LIMIT
        raise InputError(
            f"{ROOT_VARIABLE} is {excess} bytes too long: the path of a socket can have at most "
            f"{SOCKET_PATH_LIMIT} bytes, {longest} has {length}",
            "use a folder with a shorter path",
        )
