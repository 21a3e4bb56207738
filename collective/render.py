"""What a command prints: lines for standard output and standard error, and the exit status.

The daemon renders and the command prints: so the command needs no JSON, and a terminal sees an
answer in the time that Python takes to start. Whoever wants data asks the same route for JSON.

It does no input or output.

Invariants:
  * Standard output gets the result alone; the lines of the manual come first and as it has them.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from collective.errors import CollectiveError, PreflightError, QuorumError, from_wire

OUT, NOTE, STEP, EXIT = "o", "n", "s", "x"

FORMAT = 1

Document = Mapping[str, Any]

_OUTCOMES = {True: "ok     ", False: "problem", None: "skipped"}

_JOINING_HINT = (
    "hint: this server is joining; if that does not end, run the same 'collective join' again"
)
_OWN_ETCD_HINT = (
    "hint: it is etcd on this server that does not work: mend what is said of it, or see "
    "'journalctl -u collectived'; it is tried again by itself"
)
_NO_QUORUM_HINT = (
    "hint: start the servers listed as offline; if they are lost for good, see RECOVERY in "
    "collective(1)"
)
_RESTARTING_HINT = "hint: this is on purpose and takes a moment: look again"
_LATE_HINT = (
    "hint: this need not be a loss: the network or a server may be slow, or a leader is being "
    "elected; look again"
)
_LOG_HINT = "hint: see 'journalctl -u collectived' on this server"
_NOT_WELL = frozenset({"not_following", "degraded"})


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
    """Render an error, and what to do about it; the problems of a preflight one by one."""
    parts = problem.problems if isinstance(problem, PreflightError) else ()
    notes = [*_told("", problem)]
    for check, part in parts:
        notes += _told(f"{check}: ", part)
    return Rendered((), tuple(notes), problem.exit_code)


def _told(prefix: str, problem: CollectiveError) -> Iterable[str]:
    yield f"error: {prefix}{problem.message}"
    if problem.hint:
        yield f"hint: {problem.hint}"


def error_json(problem: CollectiveError) -> Rendered:
    """Render an error for ``--json``: as an object beside the lines for people."""
    return replace(error(problem), out=_json_lines({"error": problem.to_wire()}))


def as_json(rendered: Rendered, result: Document) -> Rendered:
    """Render a result for ``--json``, with the status and the errors that it has as text.

    What people would be told besides is in the object too, as ``messages``.
    """
    notes = tuple(n for n in rendered.notes if n.startswith(("error: ", "hint: ")))
    document = {**result, "messages": list(rendered.notes)}
    return Rendered(_json_lines(document), notes if rendered.status else (), rendered.status)


def _json_lines(document: Document) -> tuple[str, ...]:
    return tuple(json.dumps({"format": FORMAT, **document}, indent=2).split("\n"))


def step(name: str, text: str) -> str:
    """Render a step of a long command."""
    return f"{STEP} {_flat(f'{name}: {text}' if text else name)}"


def _flat(text: str) -> str:
    """Return a text as one line: another server's words must not speak for the daemon."""
    return "".join(char if char.isprintable() else " " for char in text)


def gencert(result: Document) -> Rendered:
    """Render the result of ``gencert``."""
    notes = [f"its SHA-256 is {result['fingerprint']}"]
    if result["replaced"]:
        notes.append(f"the former one, {result['replaced']}, opens no door any more")
    return Rendered(("Certificate generated successfully",), tuple(notes))


def _forecast(result: Document) -> tuple[str, ...]:
    """Return what a change does to the quorum, where that is known."""
    forecast = result.get("forecast")
    return tuple(str(line) for line in forecast["lines"]) if forecast else ()


def invite(result: Document) -> Rendered:
    """Render the result of ``invite``: the token, and nothing beside it."""
    token = (str(result["token"]),) if result.get("token") else ()
    replaced = result.get("replaced")
    notes = _confirmations(replaced) if replaced else ()
    warnings = (f"warning: {text}" for text in result.get("warnings", ()))
    return Rendered(token, (*notes, *_forecast(result), *warnings))


def invitations(result: Document) -> Rendered:
    """Render the result of ``invite --list``."""
    if not result["invitations"]:
        return Rendered((), ("no invitation is pending",))
    width = max(len(i["name"]) for i in result["invitations"])
    return Rendered(tuple(_invitation(i, width) for i in result["invitations"]))


def _invitation(invitation: Document, width: int) -> str:
    claimed = ", claimed by a server that joins" if invitation["claimed"] else ""
    return (
        f"{invitation['name']:{width}}  {invitation['role']}  invited by {invitation['issuer']}, "
        f"expires in {duration(invitation['expires_in'])}{claimed}"
    )


def duration(seconds: float) -> str:
    """Return a length of time with its two largest units, such as 1h 5m."""
    left = int(seconds)
    parts: list[str] = []
    for unit, size in (("d", 86400), ("h", 3600), ("m", 60), ("s", 1)):
        if left >= size and len(parts) < 2:
            parts.append(f"{left // size}{unit}")
            left %= size
    return " ".join(parts) or "0s"


def revoke(result: Document) -> Rendered:
    """Render the result of ``invite --revoke``."""
    if result["dry_run"]:
        return Rendered((), (f"the invitation for {result['name']} would be revoked",))
    return Rendered((f"the invitation for {result['name']} is revoked",))


def join(result: Document) -> Rendered:
    """Render the result of ``join``."""
    return Rendered(("Success",), _forecast(result))


def join_dry_run(result: Document) -> Rendered:
    """Render the result of ``join --dry-run``: what is wrong, or the forecast."""
    if result["error"] is not None:
        return error(from_wire(result["error"]))
    return Rendered((), _forecast(result))


def join_check(result: Document) -> Rendered:
    """Render the result of ``join --check``: every check on a line, and what a dry run tells.

    A problem is told once, on its line; what to do about it is for people.
    """
    checks = result["checks"]
    lines = tuple(f"{_OUTCOMES[c['ok']]}  {c['check']}: {c['message']}" for c in checks)
    told = join_dry_run(result)
    if result["error"] is None:
        return replace(told, out=lines)
    found = [c for c in checks if c["ok"] is False]
    count = "a problem was found" if len(found) == 1 else f"{len(found)} problems were found"
    hints = (f"hint: {c['check']}: {c['hint']}" for c in found if c.get("hint"))
    return replace(told, out=lines, notes=(f"error: {count}, and nothing was changed", *hints))


def abort(result: Document) -> Rendered:
    """Render the result of ``join --abort``."""
    return Rendered((f"the join of {result['name']} is given up",), tuple(result["notes"]))


def readdress(result: Document) -> Rendered:
    """Render the result of ``readdress``."""
    if "found" in result:
        notes = [_place(place) for place in result["places"]]
        notes += [f"found: {', '.join(result['found'])}"] if result["found"] else []
        if result["missing"]:
            notes.append(f"not found: {', '.join(result['missing'])}")
        notes.append("collectived goes on by itself; see 'collective show'")
        return Rendered((), tuple(notes))
    if result["former"] == result["address"]:
        said = f"{result['name']} has the address {result['address']} already"
        hint = "for another address give --address, or set 'address' in the settings file"
        return Rendered((said,), (hint,))
    said = f"{result['name']} is reached at {result['address']} now"
    return Rendered((said,), (f"its former address was {result['former']}",))


def _place(place: Document) -> str:
    if place["error"] is None:
        return f"{place['name']} answers at {place['address']}"
    return (
        f"warning: at {place['address']} nobody answers as {place['name']}: {place['error']}; "
        "it is asked there again and again"
    )


def delete(result: Document) -> Rendered:
    """Render the result of ``delete``."""
    name = result["name"]
    if result["dry_run"]:
        return Rendered((), _forecast(result))
    if result["left"]:
        aside = f"its former data is in {result['former_data']}"
        return Rendered((f"{name} left its collective",), (aside, *_forecast(result)))
    return Rendered((f"{name} is deleted",), (*_confirmations(result), *_forecast(result)))


def _confirmations(result: Document) -> list[str]:
    """Return who refuses a deleted server from now on, and who could not be asked."""
    name, notes = result["name"], []
    if result["confirmed"]:
        notes.append(f"{name} is locked out of: {', '.join(result['confirmed'])}")
    if result["unconfirmed"]:
        unsure = ", ".join(result["unconfirmed"])
        notes.append(f"warning: not confirmed by {unsure}: who is offline learns it on return")
    if result["remaining"]:
        notes.append("members now, with the SHA-256 of their certificates:")
        notes += [_remaining(member) for member in result["remaining"]]
    return [*notes, *_pending(result["pending"])]


def _pending(invitations: Sequence[Document]) -> list[str]:
    """Return who else may come in: whoever lost its vote may have seen their tokens."""
    if not invitations:
        return []
    told = ", ".join(f"{i['name']} (by {i['issuer']})" for i in invitations)
    return [f"invitations are pending for: {told}; 'invite --revoke' ends one"]


def _remaining(member: Document) -> str:
    return f"  {member['name']} ({member['role']}) {' '.join(member['fingerprints'])}"


def promote(result: Document) -> Rendered:
    """Render the result of ``promote``."""
    done = () if result["dry_run"] else (f"{result['name']} votes",)
    return Rendered(done, _forecast(result))


def demote(result: Document) -> Rendered:
    """Render the result of ``demote``."""
    done = () if result["dry_run"] else (f"{result['name']} does not vote",)
    # A voter of an earlier release does not name them.
    return Rendered(done, (*_pending(result.get("pending", ())), *_forecast(result)))


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
    if document.get("joining"):
        notes += (_joining(document["joining"]),)
    notes += tuple(_broken_elsewhere(document))
    if not document["quorum"]:
        notes += (_what_to_do(document),)
    status = 0 if document["quorum"] else QuorumError.exit_code
    return Rendered(_state_lines(document), notes, status)


def _joining(join: Document) -> str:
    return (
        f"a join by way of {join['server']} runs here since {duration(join['seconds'])}, its last "
        f"step is {join['step'] or 'preflight'}; the same 'collective join' attaches to it, "
        "'collective join --abort' gives it up"
    )


def _broken(document: Document) -> list[Document]:
    """Return the other members whose server answers, and whose etcd takes no part.

    One that is restarted on purpose is told of as such.
    """
    told = {document["name"], (document.get("restarting") or {}).get("name")}
    members = document["members"]
    return [m for m in members if m["state"] == "degraded" and m["name"] not in told]


def _broken_elsewhere(document: Document) -> Iterable[str]:
    for member in _broken(document):
        yield from (f"warning: {member['name']}: {text}" for text in member.get("errors", ()))


def _what_to_do(document: Document) -> str:
    """Return the hint for a server without a proven quorum."""
    if document.get("etcd_failure"):
        return _OWN_ETCD_HINT
    if document["mode"] == "joining":
        return _JOINING_HINT
    if document.get("restarting"):
        return _RESTARTING_HINT
    if document.get("proof") == "not in time":
        return _LATE_HINT
    if any(member["state"] == "offline" for member in document["members"]):
        return _NO_QUORUM_HINT
    broken = ", ".join(member["name"] for member in _broken(document))
    if broken:
        return (
            f"hint: etcd takes no part on {broken}: see why with 'journalctl -u collectived' there"
        )
    return _LOG_HINT


def names(result: Document) -> Rendered:
    """Render the result of ``show --names``."""
    return Rendered(tuple(str(name) for name in result["names"]))


def show_json(document: Document) -> Rendered:
    """Render ``show --json``; the exit status is that of ``show``."""
    return Rendered(_json_lines(document), (), show(document).status)


def _state_lines(document: Document) -> tuple[str, ...]:
    """Return the lines of the manual, then what the manual does not have."""
    members, leader = document["members"], document["leader"]
    late = " (not proven in time)" if document.get("proof") == "not in time" else ""
    active = [m for m in members if m["state"] == "active" and m["name"] != leader]
    lines = [
        f"Quorum: {document['quorum']}{late}",
        f"Leader: {leader or 'unknown'}",
        "Active collective members:",
        *_indented(active),
        *_section("Joining", members, ("learner",)),
        *_section("Not following", members, _NOT_WELL),
        *_section("Offline", members, ("offline",)),
    ]
    if document["quorum"]:
        lines.append(f"{document['tolerance']}.")
    elif members:
        lines.append(
            f"{document['answering']} of {document['voters']} voters answer, "
            f"{document['needed']} are needed."
        )
    return tuple(lines)


def _section(title: str, members: Iterable[Document], states: Collection[str]) -> list[str]:
    found = [m for m in members if m["state"] in states]
    return [f"{title} collective members:", *_indented(found)] if found else []


def _indented(members: Iterable[Document]) -> list[str]:
    return [f"  {m['name']}{_kind(m)}" for m in members]


def _kind(member: Document) -> str:
    told = " (nonvoting)" if member.get("role") == "nonvoting" else ""
    return told if member.get("address", "") is not None else f"{told} (no address is recorded)"


Renderer = Callable[[Document], Rendered]
