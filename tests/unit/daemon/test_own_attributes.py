"""In the daemon each object writes its own attributes, and no other's."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

from collective import daemon

PACKAGE = Path(daemon.__file__).parent


def written(tree: ast.AST) -> Iterator[ast.expr]:
    """Yield what is assigned to, or deleted, in any kind of statement."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store | ast.Del):
            yield node.value
        if isinstance(node, ast.Call) and ast.unparse(node.func).endswith(("setattr", "delattr")):
            yield node.args[0] if node.args else node.func


def strangers(text: str) -> list[str]:
    """Return the objects whose attributes are written though they are not the writer."""
    names = (ast.unparse(value) for value in written(ast.parse(text)))
    return [name for name in names if name not in ("self", "cls")]


def test_no_object_writes_the_attribute_of_another() -> None:
    """It asks it to, by a method that says what for, so that who changes what can be read."""
    found = {path.name: strangers(path.read_text()) for path in PACKAGE.rglob("*.py")}
    assert {name: others for name, others in found.items() if others} == {}


def test_every_kind_of_statement_is_seen() -> None:
    """Or the test above would hold for nothing."""
    text = """
self.a = 1
self.b += 1
other.a = 1
self.part.a += 1
x, other.b = 1, 2
self.parts[0].c: int = 1
del other.d
with thing() as other.e: pass
for other.f in (): pass
setattr(other, "g", 1)
"""
    assert sorted(strangers(text)) == sorted(["other"] * 6 + ["self.part", "self.parts[0]"])
