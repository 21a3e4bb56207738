"""In the place of Confluent's log."""

from __future__ import annotations

import sys
from typing import Any


def log(entry: dict[str, Any]) -> None:
    """Log something."""
    print(entry, file=sys.stderr)
