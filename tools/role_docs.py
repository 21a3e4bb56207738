"""Makes the page of each role's variables from its argument specification.

``python -m tools.role_docs`` writes them; ``--check`` writes nothing, and fails if one is stale.
"""

from __future__ import annotations

import argparse
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parent.parent / "deploy" / "roles"
_PAGE = "README.md"
_HEAD = """# The role confluent.collective.ROLE

This page is made from `meta/argument_specs.yml`, which Ansible checks every variable against
before the first task.

"""
#: Ansible's marks for a value, an option, a constant and others; all are code here.
_MARK = re.compile(r"\b(?:C|O|V|RV|M)\(([^)]*)\)")


def render(role: Path) -> str:
    """Return the text of the page of a role, by its folder."""
    specs = yaml.safe_load((role / "meta" / "argument_specs.yml").read_text(encoding="utf-8"))
    entries: Mapping[str, Any] = specs["argument_specs"]
    common = next(iter(entries.values()))["options"]
    lines = ["| Entry point | Does |", "|---|---|"]
    for name, entry in entries.items():
        said = [entry["short_description"] + ".", *_lines(entry["description"])]
        lines.append(f"| `{name}` | {_plain(' '.join(said))} |")
    lines += ["", "| Variable | Type | Default | What it is |", "|---|---|---|---|"]
    lines += [_row(name, option, "") for name, option in common.items()]
    for name, entry in entries.items():
        own = {k: v for k, v in entry.get("options", {}).items() if k not in common}
        lines += [_row(key, option, f" Only for `{name}`.") for key, option in own.items()]
    return _HEAD.replace("ROLE", role.name) + "\n".join(lines) + "\n"


def main(arguments: list[str] | None = None) -> int:
    """Write the pages, or check them."""
    parser = argparse.ArgumentParser(prog="python -m tools.role_docs")
    parser.add_argument("--check", action="store_true", help="fail if a page is stale")
    is_check = parser.parse_args(arguments).check
    stale = {role / _PAGE: text for role in sorted(ROLES.iterdir()) if (text := _new(role))}
    for page, text in stale.items():
        if is_check:
            print(f"{page} is stale: run 'make man' and commit it", file=sys.stderr)
        else:
            page.write_text(text, encoding="utf-8")
    return int(is_check and bool(stale))


def _new(role: Path) -> str:
    """Return the text of a page that is stale, "" for one that is not."""
    page, text = role / _PAGE, render(role)
    is_stale = not page.exists() or page.read_text(encoding="utf-8") != text
    return text if is_stale else ""


def _row(name: str, option: Mapping[str, Any], more: str) -> str:
    kind = option["type"]
    if "choices" in option:
        kind = ", ".join(f"`{choice}`" for choice in option["choices"])
    elif "elements" in option:
        kind = f"{kind} of {option['elements']}"
    default = "required" if option.get("required") else ""
    if "default" in option:
        text = yaml.safe_dump(option["default"]).splitlines()[0].strip("'")
        default = _plain(f"`{text}`")
    said = _plain(" ".join(_lines(option["description"])))
    return f"| `{name}` | {kind} | {default} | {said}{more} |"


def _lines(text: str | list[str]) -> list[str]:
    return [text] if isinstance(text, str) else text


def _plain(text: str) -> str:
    return _MARK.sub(r"`\1`", text.replace("|", "\\|"))


if __name__ == "__main__":
    sys.exit(main())
