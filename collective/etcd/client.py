"""etcd3gw's client over our transport: what the daemon makes its calls to etcd with.

This is the only module that imports etcd3gw. Software beside the daemon does without, see
``gateway``.
"""

from __future__ import annotations

from typing import cast

from etcd3gw.client import Etcd3Client

from collective.etcd.gateway import API, Client, Session


def etcd3gw_client(session: Session) -> Client:
    """Return a client for a ``Gateway``."""
    made = Etcd3Client("etcd", 1, session=session, api_path=API + "/")  # type: ignore[arg-type]
    return cast(Client, made)
