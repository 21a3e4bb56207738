"""Builds the package; all that is known about it is in setup.cfg.

The manual pages are made anew from the parsers at every build. They do not depend on the day,
the terminal or the version of Python, so a build of an unchanged tree changes no file.
"""

from __future__ import annotations

import sys
from pathlib import Path

from build_manpages import build_manpages, get_build_py_cmd
from setuptools import setup

# A build from pyproject.toml does not put this folder on the path by itself.
sys.path.insert(0, str(Path(__file__).resolve().parent))

from tools import manpages


class BuildManpages(build_manpages):
    """Make the manual pages with the same code that checks the committed ones."""

    def run(self) -> None:
        """Write every page that is not what the parsers say now."""
        manpages.write()


setup(cmdclass={"build_manpages": BuildManpages, "build_py": get_build_py_cmd()})
