"""The command line of ``collectived``.

It does not read settings and does not act: ``collective.daemon.main`` does.

Invariants:
  * Imports argparse and the version alone: the manual page collectived(8) is made from it when
    the package is built, where none of its needs are installed.
"""

from __future__ import annotations

import argparse

from collective import __version__

DESCRIPTION = (
    "Make this server part of a collective: run one etcd, watch over it, let invited servers in, "
    "and answer the collective command. It stays in the foreground and logs to standard error."
)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of ``collectived``.

    What it parses has ``config`` (text or None: the usual file) and ``check`` (bool).
    """
    parser = argparse.ArgumentParser(
        prog="collectived", description=DESCRIPTION, allow_abbrev=False
    )
    parser.add_argument(
        "--version",
        action="version",
        version=f"%(prog)s {__version__}",
        help="print the version and exit",
    )
    parser.add_argument(
        "-c",
        "--config",
        metavar="FILE",
        help="read settings from FILE, which must be there (default: "
        "/etc/confluent/collective.conf, or etc/collective.conf under COLLECTIVE_ROOT, which need "
        "not be there)",
    )
    parser.add_argument(
        "--check",
        action="store_true",
        help="check the settings, name the first line that is wrong, say which etcd would run, "
        "and exit",
    )
    return parser
