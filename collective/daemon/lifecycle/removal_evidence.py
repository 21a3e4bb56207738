"""What the other voters say of this server's membership, heard over and over until it is clear.

It does not decide (``policy.evidence`` does) and ends no life.
"""

from __future__ import annotations

from collective.daemon.member.failure_detector import Answer
from collective.daemon.member.runtime import MemberRuntime
from collective.policy.evidence import Word, is_believed, is_unopposed


class RemovalEvidence:
    """The words of the others about one life of this server."""

    def __init__(self, runtime: MemberRuntime) -> None:
        self._runtime = runtime
        self._tries = 0
        self._counted = 0.0

    def is_deleted(self) -> bool:
        """Listen once more, and tell whether this server may take itself for deleted."""
        view, answers = self._runtime.records_view.view, self._runtime.detector.last_answers()
        words = {name: _word(answers[name]) for name in answers.keys() & view.voters.keys()}
        newest = max((a.when for a in answers.values() if a.removed), default=0.0)
        if not is_unopposed(words):
            self._tries = 0
        elif newest > self._counted:
            self._tries += 1
            self._counted = newest
        return is_believed(view.voters, self._runtime.name, words, self._tries)


def _word(answer: Answer) -> Word:
    if answer.removed:
        return Word.DELETED
    return Word.MEMBER if answer.status is not None else Word.NOTHING
