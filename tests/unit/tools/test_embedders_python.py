"""What an embedder imports: of which Python it is, and that it needs no other package."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import collective
from tests.harness.interpreters import VERSIONS, interpreter
from tests.harness.server import CHECKOUT

OLDEST = (3, 9)
#: All that a public name may bring, but for the daemon inside another server, whose needs are
#: those of the daemon.
FACES = ("collective.handle", "collective.aio", *sorted(set(collective._HOMES.values())))
LEFT_OUT = {"collective.embedded"}
#: Of Python 3.10: names of the standard library, and arguments of calls.
LATER_NAMES = {"anext", "aiter", "NoneType", "UnionType", "TypeAlias", "ParamSpec", "pairwise"}
LATER_ARGUMENTS = {("zip", "strict"), ("dataclass", "slots"), ("dataclass", "kw_only")}


def file_of(module: str) -> Path | None:
    path = CHECKOUT / module.replace(".", "/")
    candidates = (path / "__init__.py", path.with_suffix(".py"))
    return next((each for each in candidates if each.exists()), None)


def imports_of(tree: ast.AST) -> Iterator[str]:
    """Yield what is imported where the code runs, wherever in the file that stands."""
    skipped = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for part in node.body
        for inner in ast.walk(part)
    }
    for node in ast.walk(tree):
        if id(node) in skipped:
            continue
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield node.module or ""
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def closure() -> tuple[dict[str, str], set[str]]:
    """Return the texts of all modules that the faces bring, and what else they import."""
    texts: dict[str, str] = {}
    others: set[str] = set()
    left = [face for face in FACES if face not in LEFT_OUT]
    while left:
        module = left.pop()
        file = file_of(module)
        if module in texts or file is None:
            continue
        texts[module] = file.read_text()
        left += [module.rsplit(".", 1)[0]] if "." in module else []
        for name in imports_of(ast.parse(texts[module])):
            (left.append if name.split(".")[0] == "collective" else others.add)(name)
    return texts, others


TEXTS, OTHERS = closure()


def test_standard_library_is_all_that_is_needed() -> None:
    """The embedder's interpreter has packages of its own, and none of ours."""
    assert len(TEXTS) > 70
    assert {name.split(".")[0] for name in OTHERS} <= set(sys.stdlib_module_names)


@pytest.mark.parametrize("module", sorted(TEXTS))
def test_module_is_of_the_oldest_python(module: str) -> None:
    """Its syntax, and what is evaluated when it is imported or called."""
    tree = ast.parse(TEXTS[module], feature_version=OLDEST)
    assert not [node.lineno for node in ast.walk(tree) if isinstance(node, ast.Match)]
    names = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert not names & LATER_NAMES
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            called = ast.unparse(node.func)
            assert not {(called, keyword.arg) for keyword in node.keywords} & LATER_ARGUMENTS
            if called == "isinstance":
                assert not isinstance(node.args[1], ast.BinOp), ast.unparse(node)


@pytest.mark.parametrize("version", VERSIONS)
def test_faces_are_imported_without_any_package(version: str) -> None:
    """On the interpreters that there are here; isolated, so without what is installed there."""
    python = interpreter(version)
    if python is None:
        pytest.skip(f"there is no Python {version} here")
    faces = ", ".join(sorted(face for face in FACES if face not in LEFT_OUT))
    code = f"import sys; sys.path.insert(0, {str(CHECKOUT)!r}); import {faces}; print('fine')"
    done = subprocess.run(
        [python, "-I", "-S", "-c", code], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.stdout == "fine\n", done.stderr
