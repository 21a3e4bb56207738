"""May this voter's etcd start, and whom is it to let in? What the other voters say, weighed.

A server that was off knows the members of then. Some of them may have been deleted since, and hold
all that they had: together with this server they could be a quorum of a collective that is no
more. So it starts only when a majority of the voters that it knows, itself counted, agree on what
has changed (design, section 9); one that was deleted is named by all others that answer.

Safety property: records are taken over only from who is a member by them, and only with a majority
of the known voters none of whom says that their author, or another of them, was deleted.

It asks nobody.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from collective.model.view import View
from collective.policy.membership import quorum


@dataclass(frozen=True)
class Report:
    """What one voter said since this server booted.

    Attributes:
        fingerprint: of the certificate that it has shown.
        view: the records as it has them.
    """

    fingerprint: str
    view: View


def newest_agreed(known: View, here: str, reports: Mapping[str, Report]) -> View | None:
    """Return the records to start with, None while too few agree.

    Args:
        known: the records as this server remembers them.
        here: its name.
        reports: by the voter's name; others than the voters it knows do not count.
    """
    voters = known.voters.keys() | {here}
    counted = {name: report for name, report in reports.items() if name in voters}
    needed = quorum(len(voters))
    if len(counted) + 1 < needed:
        return None
    if needed == 1:
        return known
    for author in sorted(counted.values(), key=lambda report: -report.view.revision):
        agree = _agreeing(counted.values(), author)
        if len(agree) + 1 >= needed:
            return author.view if author.view.revision > known.revision else known
    return None


def missing(known: View, here: str, reports: Mapping[str, Report]) -> tuple[str, ...]:
    """Return the names of the voters that have said nothing yet."""
    return tuple(sorted(known.voters.keys() - {here} - reports.keys()))


def _agreeing(reports: Iterable[Report], author: Report) -> list[Report]:
    """Return the reports that speak for an author's records.

    Records of before a deletion suit everybody who was a member then. So who was deleted does not
    count where one that knows of it speaks for them, too.
    """
    agree = [report for report in reports if _agrees(report, author)]
    gone = {report.fingerprint for report in agree for r in agree if _revokes(r, report)}
    return [report for report in agree if report.fingerprint not in gone]


def _revokes(report: Report, other: Report) -> bool:
    return other.fingerprint in report.view.revoked


def _agrees(report: Report, author: Report) -> bool:
    """Tell whether a voter is a member by the author's records, and does not call him deleted."""
    member = report.fingerprint in author.view.certificates
    return member and not _revokes(report, author)
