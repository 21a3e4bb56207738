# Copyright the Confluent collective developers
# Apache License 2.0 (see LICENSE or https://www.apache.org/licenses/LICENSE-2.0)
"""The collective command, as the modules use it: arguments in, one JSON document out.

It decides nothing; that is in the modules.

Invariants:
  * A token goes in on standard input, and comes out in a result that no log gets.
"""

from __future__ import annotations

import json

#: Where the commands are, besides PATH.
PLACES = ["/usr/local/bin", "/usr/local/sbin", "/usr/bin", "/opt/confluent-collective/current/bin"]


class Outcome:
    """What a command came to.

    Attributes:
        code: its exit status.
        document: what it told, or an empty dictionary.
        said: what it wrote on standard error: lines for people.
    """

    def __init__(self, code, document, said):
        self.code = code
        self.document = document
        self.said = said

    @property
    def error(self):
        """The sentence that says what went wrong, with its hint."""
        found = self.document.get("error") or {}
        if not found:
            return " ".join(self.said.split()) or f"it ended with {self.code} and said nothing"
        parts = [found, *(found.get("problems") or [])]
        said = [part.get(key) for part in parts for key in ("message", "hint")]
        return "; ".join(text for text in said if text)

    @property
    def told(self):
        """What it told people, one line each."""
        return self.document.get("messages") or self.said.splitlines()


class Command:
    """The command on this host."""

    def __init__(self, module):
        """Find it.

        Args:
            module: the AnsibleModule that runs.
        """
        self._module = module
        self.path = module.get_bin_path("collective", required=False, opt_dirs=PLACES)

    def run(self, arguments, text=""):
        """Run it, and return the outcome.

        Args:
            arguments: list of words, without the name of the command.
            text: for its standard input, such as a token.
        """
        if self.path is None:
            self._module.fail_json(
                msg="the collective command is not installed on this host; run the role "
                "confluent.collective.collective first"
            )
        code, out, said = self._module.run_command(
            [self.path, *arguments, "--json"], data=text, check_rc=False
        )
        try:
            document = json.loads(out) if out.strip() else {}
        except ValueError:
            self._module.fail_json(msg=f"the command {arguments[0]} told no JSON")
        return Outcome(code, document if isinstance(document, dict) else {}, said)

    def show(self):
        """Return what this server knows of its collective, or None where no daemon tells."""
        document = self.run(["show"]).document
        return document if "mode" in document else None
