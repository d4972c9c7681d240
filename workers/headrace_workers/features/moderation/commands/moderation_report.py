"""`headrace moderation report`: how often moderation objected to what, over time."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.durations import milliseconds, parse_time
from headrace_workers.cli.options import JsonLinesOption, limit_option
from headrace_workers.cli.output import console, put_json, say, table

if TYPE_CHECKING:
    from headrace_workers.features.moderation.store.moderated import VerdictRow

_COLUMNS = ("from", "texts", "redacted", "blocked", "category", "looked at", "objected to", "share")


class Period(StrEnum):
    """The period over which verdicts are counted."""

    DAY = "day"
    HOUR = "hour"


@dataclass
class Counts:
    """The counts of one period: actions, and for each category how often it was checked and found."""

    actions: Counter[str] = field(default_factory=Counter)
    looked: Counter[str] = field(default_factory=Counter)
    objected: Counter[str] = field(default_factory=Counter)


def report(
    since: Annotated[
        str, typer.Option("--since", help="only jobs that ended since: 10m, 2h, 3d, or an ISO 8601 time")
    ] = "7d",
    tenant: Annotated[str | None, typer.Option("--tenant", help="only jobs of this tenant")] = None,
    by: Annotated[Period, typer.Option("--by", help="the period, in UTC")] = Period.DAY,
    limit: Annotated[int, limit_option("the number of jobs, newest first")] = 100_000,
    as_json: JsonLinesOption = False,
) -> None:
    """Show how often moderation objected, by period and category, from the receipts in the ledger.

    A share counts the texts that were checked for the category. If none was, there is no share.

    Example: `headrace moderation report --since 30d --tenant shop`
    """
    from headrace_workers.features.moderation.store.moderated import ModeratedJobs, Span

    ledger = need_ledger()
    now = ledger.now()
    begin = milliseconds(parse_time(since, datetime.fromtimestamp(now / 1000, UTC)))
    counted = count(ledger.of(ModeratedJobs).verdicts(Span(begin, now + 1, tenant), limit), by)
    if not counted:
        say(f"moderation said nothing since {since}: no job with a verdict has ended, or all are forgotten")
    elif as_json:
        for start, counts in counted.items():
            put_json({"from": start, "actions": counts.actions, "looked_at": counts.looked,
                      "objected_to": counts.objected})  # fmt: skip
    else:
        rows = [row for start, counts in counted.items() for row in _rows(start, counts)]
        console(data=True).print(table(None, _COLUMNS, rows, right=(*_COLUMNS[1:4], *_COLUMNS[5:])))


def count(verdicts: "Iterable[VerdictRow]", by: Period) -> dict[str, Counts]:
    """Return the counts by the beginning of each period, the oldest first. Empty periods are left out."""
    found: dict[str, Counts] = {}
    for verdict in verdicts:
        at = datetime.fromtimestamp(verdict.ended_at / 1000, UTC)
        start = at.strftime("%Y-%m-%d" if by is Period.DAY else "%Y-%m-%dT%H:00Z")
        counts = found.setdefault(start, Counts())
        counts.actions[verdict.action] += 1
        counts.looked.update(verdict.categories.keys())
        counts.objected.update(name for name, objected in verdict.categories.items() if objected)
    return dict(sorted(found.items()))


def _rows(start: str, counts: Counts) -> list[tuple[str, ...]]:
    texts, redacted, blocked = counts.actions.total(), counts.actions["redact"], counts.actions["block"]
    head = (start, f"{texts:,}", f"{redacted:,}", f"{blocked:,}")
    return [
        (*head, name, f"{looked:,}", f"{counts.objected[name]:,}", f"{counts.objected[name] / looked:.1%}")
        for name, looked in sorted(counts.looked.items())
    ] or [(*head, "", "", "", "")]
