"""The data of a server that former releases kept elsewhere.

It moves nothing: the unit does, as root, since the daemon may write to its own folders alone.
"""

from __future__ import annotations

import os

from collective.errors import RefusedError
from collective.model.layout import Layout


def check_moved(layout: Layout, former: Layout | None) -> None:
    """Refuse to begin as a new server beside the data of one that former releases kept elsewhere.

    Args:
        layout: where everything is.
        former: where it was, None where there is no such place.

    Raises:
        RefusedError: there is data, and none here.
    """
    if former is None or os.path.lexists(layout.state):
        return
    if os.path.lexists(former.state):
        raise RefusedError(
            f"the data of this server is in {former.data}, where releases up to 0.2 had it",
            f"the unit of this release moves it; by hand: mkdir -p {layout.data} && "
            f"mv {former.data}/* {layout.data}/",
        )
