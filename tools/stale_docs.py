"""Finds names in the documents and docstrings that the tree does not have any more.

``python -m tools.stale_docs`` prints each as FILE:LINE, and fails if there is one. A name counts
where it stands between backticks, in the documents of ``DOCUMENTS`` and in the docstrings of
``CODE``:

    files      ``tools/check.py``, from the root or from any folder; ``::test_x`` behind it too
    modules    ``store.cache``, ``policy.membership.Strength``: what is in the module counts too
    code       ``Strength``, ``set_aside``, ``connect()``: a class, or a name with ``_`` or ``()``
    packages   in the first column of a table that is headed "Package" or "Storey"
    commands   ``collective join --check``, also without ``collective`` where an option follows;
               ``make demo``, ``python -m tools.check``
    promises   P1 to P12, wherever they stand

It does not look at a single word in lower case (``duties``: it may be anything), at code blocks
and pictures, at routes, settings, keys of the store and files of a server, or at whether what is
said of a name is true. A name that is in the tree, but somewhere else, counts as there.
"""

from __future__ import annotations

import argparse
import ast
import importlib.util
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from collective.cli.parser import make_parser

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = ("README.md", "CONTRIBUTING.md", "SECURITY.md", "docs/**/*.md", "collective/**/*.md")
CODE = ("collective", "tools", "sandbox", "bench", "examples", "tests", "deploy")
_UNSEEN = ("__pycache__", "build", "dist")

#: Names of others, and what docs/embedding.md calls the objects in its examples.
FOREIGN = {
    *("ExecStart", "HealthInterval", "TCP_USER_TIMEOUT", "preexec_fn"),
    "bench/results/VERSION.md",
    *("collective.manager", "collective.managercandidates"),  # attributes of Confluent's nodes
    *("call", "hold", "manager", "session", "self"),
}
_FILE = re.compile(r"([\w.-]+(?:/[\w.-]+)*\.(?:py|md))(?:::(\w+))?")
_FOLDER = re.compile(rf"(?:{'|'.join(CODE)}|docs|man)(?:/[a-z][\w-]*)+")
_DOTTED = re.compile(r"[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)+")
_WORD = re.compile(r"_*[A-Z][a-z]\w*|\w*[a-z]_[a-z]\w*|_[a-z]\w+|[A-Z]+(?:_[A-Z]+)+")
_DATA = re.compile(r"\.(?:json|pem|der|conf|cfg|toml|yml|lock|netrc|c)$")


class Tree:
    """What there is in a checkout."""

    def __init__(self, root: Path) -> None:
        """Read all of the code.

        Args:
            root: of the checkout.
        """
        self.root = root
        self.files: set[str] = set()
        self.modules: dict[str, set[str]] = {}
        self.classes: dict[str, set[str]] = {}
        self.names: set[str] = set()
        self.docstrings: list[tuple[Path, int, str]] = []
        for folder in CODE:
            for path in sorted((root / folder).rglob("*.py")):
                if not set(_UNSEEN) & set(path.parts):
                    self._read(path)
        texts = [
            *root.glob("*.md"),
            *(p for f in (*CODE, "docs") for p in (root / f).rglob("*.md")),
        ]
        self.files |= {f"/{path.relative_to(root)}" for path in texts}
        promises = root / "docs" / "promises.md"
        self.promises = set(re.findall(r"^\| \*\*(P\d+)\*\*", _text(promises), re.MULTILINE))
        self.targets = set(re.findall(r"^([a-z-]+):", _text(root / "Makefile"), re.MULTILINE))
        self.options = _options()

    def _read(self, path: Path) -> None:
        relative = path.relative_to(self.root)
        self.files.add(f"/{relative}")
        tree = ast.parse(path.read_text(encoding="utf-8"))
        parts = relative.with_suffix("").parts
        module = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        self.modules[f".{module}"] = names = set(_named(tree))
        self.names |= names | set(parts)
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                self.classes.setdefault(node.name, set()).update(_named(node))
            if isinstance(
                node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef
            ):
                text = ast.get_docstring(node, clean=False)
                if text:
                    self.docstrings.append((path, node.body[0].lineno, text))

    def has_file(self, name: str, test: str | None = None) -> bool:
        """Tell whether there is a file, and a test in it, from the root or from any folder."""
        found = [file for file in self.files if file.endswith(f"/{name.removeprefix('../')}")]
        texts = (_text(self.root / file[1:]) for file in found)
        return any(test is None or f"def {test}(" in text for text in texts)

    def has_dotted(self, name: str) -> bool:
        """Tell whether there is a module, something in one, or something in a class."""
        parts = name.split(".")
        if parts[0] in FOREIGN:
            return parts[-1] in self.names
        for count in range(len(parts), 0, -1):
            wanted, rest = "." + ".".join(parts[:count]), parts[count:]
            homes = [module for module in self.modules if module.endswith(wanted)]
            if wanted != ".collective":  # what is in a package may be in a module of it
                homes += [m for m in self.modules if any(m.startswith(f"{h}.") for h in homes)]
            if homes:
                there = not rest or any(rest[0] in self.modules[home] for home in homes)
                return there and self.names.issuperset(rest)
        if parts[0] in self.classes:
            return parts[1] in self.classes[parts[0]]
        return importlib.util.find_spec(parts[0]) is not None

    def has_command(self, words: list[str]) -> bool:
        """Tell whether there is a command of ``collective``, with these options."""
        known = self.options.get(words[0])
        used = {word for word in words[1:] if re.fullmatch(r"-[a-z]|--[a-z-]+", word)}
        return known is not None and used <= known


def _named(tree: ast.AST) -> Iterator[str]:
    """Yield every name that code defines or uses, and the words that are a string of it."""
    for node in ast.walk(tree):
        for field in ("name", "id", "attr", "arg", "asname"):
            value = getattr(node, field, None)
            if isinstance(value, str):
                yield value.rpartition(".")[2]
        text = node.value if isinstance(node, ast.Constant) else None
        if isinstance(text, str) and text.isidentifier():
            yield text


def _options() -> dict[str, set[str]]:
    (commands,) = (a for a in make_parser()._actions if isinstance(a, argparse._SubParsersAction))
    return {name: set(p._option_string_actions) for name, p in commands.choices.items()}


def _text(path: Path) -> str:
    return path.read_text(encoding="utf-8") if path.is_file() else ""


def complaint(tree: Tree, token: str) -> str | None:
    """Return what is wrong with the text between two backticks, None if nothing is known to be."""
    words = token.split()
    if not words or token in FOREIGN or "…" in token or "..." in token:
        return None
    plain = re.sub(r"\([^()]*\)", "", token)
    if file := _FILE.fullmatch(token):
        return None if tree.has_file(file[1], file[2]) else "no such file"
    if _FOLDER.fullmatch(token.rstrip("/")) and not token.startswith("collective/"):
        return None if (tree.root / token).exists() else "no such folder"
    if words[0] == "make" and len(words) > 1:
        return None if words[1] in tree.targets else "no such target"
    if words[:2] == ["python", "-m"] and len(words) > 2:
        return None if tree.has_dotted(words[2]) else "no such module"
    if re.match("collective [a-z]", token):
        return None if tree.has_command(words[1:]) else "no such command or option"
    if words[0] in tree.options and any(word.startswith("-") for word in words[1:]):
        return None if tree.has_command(words) else "no such option"
    if _DOTTED.fullmatch(plain):
        there = _DATA.search(plain) or tree.has_dotted(plain)
        return None if there else "no such module, or nothing of it"
    is_call = plain != token and plain.isidentifier() and not token[-2].isdigit()
    if (is_call or _WORD.fullmatch(plain)) and plain not in tree.names:
        return "no such name"
    return None


def complaints(tree: Tree, text: str) -> Iterator[tuple[int, str]]:
    """Yield what is wrong in a text, with the number of the line, from 0."""
    modules = tree.modules
    bare = re.sub(r"^```.*?^```$", _blank, text, flags=re.MULTILINE | re.DOTALL)
    for found in re.finditer(r"(`{1,2})([^`]+)\1", bare):
        wrong = complaint(tree, " ".join(found[2].split()))
        if wrong:
            yield bare.count("\n", 0, found.start()), f"`{found[2]}`: {wrong}"
    for found in re.finditer(r"\bP\d+\b", bare):
        if found[0] not in tree.promises:
            yield bare.count("\n", 0, found.start()), f"{found[0]}: no such promise"
    for table in re.finditer(r"^\| (?:Package|Storey).*\n(?:\|.*\n?)*", bare, re.MULTILINE):
        first = bare.count("\n", 0, table.start())
        for line, row in enumerate(table[0].splitlines()[1:], first + 1):
            for name in re.findall(r"`([^`]+)`", row.split("|")[1]):
                if not any(
                    m.endswith(f".{name}") and m.startswith(".collective") for m in modules
                ):
                    yield line, f"`{name}`: no such package"


def _blank(found: re.Match[str]) -> str:
    return "\n" * found[0].count("\n")


def stale(root: Path) -> list[str]:
    """Return a line for each name that is stale in a checkout."""
    tree = Tree(root)
    texts = [
        (path, 1, _text(path)) for pattern in DOCUMENTS for path in sorted(root.glob(pattern))
    ]
    return [
        f"{path.relative_to(root)}:{first + line}: {wrong}"
        for path, first, text in (*texts, *tree.docstrings)
        for line, wrong in complaints(tree, text)
    ]


def main() -> int:
    """Print what is stale; return the exit status."""
    found = stale(ROOT)
    print("\n".join(found) if found else "every name in the documents is there")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main())
