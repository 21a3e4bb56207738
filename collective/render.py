"""What a command prints: lines for standard output and standard error, and the exit status.

The daemon renders and the command prints: so the command needs no JSON, and a terminal sees an
answer in the time that Python takes to start. Whoever wants data asks the same route for JSON.

It does no input or output.

Invariants:
  * Standard output gets the result alone; the lines of the manual come first and as it has them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from collective.errors import CollectiveError, QuorumError, from_wire

OUT, NOTE, STEP, EXIT = "o", "n", "s", "x"

Document = Mapping[str, Any]

_JOINING_HINT = (
    "hint: this server is joining; if that does not end, run the same 'collective join' again"
)
_NO_QUORUM_HINT = (
    "hint: start the servers listed as offline; if they are lost for good, see RECOVERY in "
    "collective(1)"
)


@dataclass(frozen=True)
class Rendered:
    """What a finished command prints.

    Attributes:
        out: lines of the result.
        notes: lines for people.
        status: exit status.
    """

    out: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()
    status: int = 0

    def lines(self) -> Iterable[str]:
        """Return it as it crosses the socket: a letter, a space, the text."""
        yield from (f"{OUT} {_flat(line)}" for line in self.out)
        yield from (f"{NOTE} {_flat(line)}" for line in self.notes)
        yield f"{EXIT} {self.status}"


def error(problem: CollectiveError) -> Rendered:
    """Render an error, and what to do about it."""
    hint = (f"hint: {problem.hint}",) if problem.hint else ()
    return Rendered((), (f"error: {problem.message}", *hint), problem.exit_code)


def step(name: str, text: str) -> str:
    """Render a step of a long command."""
    return f"{STEP} {_flat(f'{name}: {text}' if text else name)}"


def _flat(text: str) -> str:
    """Return a text as one line: another server's words must not speak for the daemon."""
    return "".join(char if char.isprintable() else " " for char in text)


def gencert(_result: Document) -> Rendered:
    """Render the result of ``gencert``."""
    return Rendered(("Certificate generated successfully",))


def invite(result: Document) -> Rendered:
    """Render the result of ``invite``: the token, and nothing beside it."""
    return Rendered((str(result["token"]),))


def join(_result: Document) -> Rendered:
    """Render the result of ``join``."""
    return Rendered(("Success",))


def delete(result: Document) -> Rendered:
    """Render the result of ``delete``."""
    name = result["name"]
    if result["left"]:
        aside = f"its former data is in {result['former_data']}"
        return Rendered((f"{name} left its collective",), (aside,))
    notes: list[str] = []
    if result["confirmed"]:
        notes.append(f"{name} is locked out of: {', '.join(result['confirmed'])}")
    if result["unconfirmed"]:
        unsure = ", ".join(result["unconfirmed"])
        notes.append(f"warning: not confirmed by {unsure}: who is offline learns it on return")
    if result.get("rekey"):
        notes.append(
            "a re-keying has begun: until it ends (see 'collective show') the CA's key that "
            f"{name} may have kept is still good"
        )
        notes += _ended_invitations(result)
    return Rendered((f"{name} is deleted",), (*notes, str(result["tolerance"])))


def rotate_ca(result: Document) -> Rendered:
    """Render the result of ``rotate-ca``."""
    return Rendered(("Success",), _ended_invitations(result))


def _ended_invitations(result: Document) -> tuple[str, ...]:
    """Say which invitations end with the old CA, which their tokens name."""
    names = result["invitations_end"]
    if not names:
        return ()
    again = "'collective invite' makes new ones when the re-keying is done"
    return (f"invitations that end with the old CA: {', '.join(names)}; {again}",)


def show(document: Document) -> Rendered:
    """Render ``show``; the exit status is 0 only with a proven quorum."""
    notes = tuple(f"warning: {text}" for text in document["errors"])
    if document.get("idle"):
        problem = error(from_wire(document["idle"]))
        return Rendered(_state_lines(document), notes + problem.notes, problem.status)
    if document["quorum"] and len(document["members"]) == 1:
        notes += (
            "this server is a collective of one; 'collective invite SERVER' lets another one in",
        )
    if not document["quorum"]:
        notes += (_JOINING_HINT if document["mode"] == "joining" else _NO_QUORUM_HINT,)
    status = 0 if document["quorum"] else QuorumError.exit_code
    return Rendered(_state_lines(document), notes, status)


def show_json(document: Document) -> Rendered:
    """Render ``show --json``; the exit status is that of ``show``."""
    text = json.dumps(document, indent=2)
    return Rendered(tuple(text.split("\n")), (), show(document).status)


def _state_lines(document: Document) -> tuple[str, ...]:
    """Return the lines of the manual, then what the manual does not have."""
    members, leader = document["members"], document["leader"]
    active = [m for m in members if m["state"] == "active" and m["name"] != leader]
    lines = [
        f"Quorum: {document['quorum']}",
        f"Leader: {leader or 'unknown'}",
        "Active collective members:",
        *_indented(active),
        *_section("Joining", members, ("learner",)),
        *_section("Offline", members, ("offline", "degraded")),
    ]
    if document["quorum"]:
        lines.append(f"{document['tolerance']}.")
    elif members:
        lines.append(
            f"{document['answering']} of {document['voters']} voters answer, "
            f"{document['needed']} are needed."
        )
    rekey = document.get("rekey")
    if rekey:
        lines.append(_rekey_line(rekey))
    return tuple(lines)


def _rekey_line(rekey: Document) -> str:
    waits = rekey["waiting_for"]
    tail = f", waits for {', '.join(waits)}" if waits else ""
    return f"Re-keying is under way ({rekey['reason']}): {rekey['phase']}{tail}."


def _section(title: str, members: Iterable[Document], states: tuple[str, ...]) -> list[str]:
    found = [m for m in members if m["state"] in states]
    return [f"{title} collective members:", *_indented(found)] if found else []


def _indented(members: Iterable[Document]) -> list[str]:
    return [f"  {m['name']}" for m in members]


Renderer = Callable[[Document], Rendered]
