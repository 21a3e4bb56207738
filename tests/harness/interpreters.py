"""Other Pythons of this machine, without any package: what an embedder's interpreter is like."""

from __future__ import annotations

import subprocess
from functools import lru_cache
from pathlib import Path

#: Those that embedders may have.
VERSIONS = ("3.9", "3.10", "3.11", "3.12", "3.13")
_SECONDS = 20.0
_PLACES = (
    "/usr/bin/python{}",
    "/usr/local/bin/python{}",
    "~/.pyenv/versions/{}.*/bin/python3",
    "/opt/python{}/bin/python3",
)


@lru_cache(None)
def interpreter(version: str) -> str | None:
    """Return the path of a Python, by its version such as "3.9"; None where there is none."""
    for place in _PLACES:
        path = Path(place.format(version)).expanduser()
        root, pattern = Path(path.anchor), str(path.relative_to(path.anchor))
        for found in sorted(root.glob(pattern)):
            if _is(found, version):
                return str(found)
    return None


def _is(path: Path, version: str) -> bool:
    code = "import sys; print('%d.%d' % sys.version_info[:2])"
    try:
        done = subprocess.run(
            [str(path), "-I", "-c", code],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
        )
    except OSError:
        return False
    return done.stdout.strip() == version
