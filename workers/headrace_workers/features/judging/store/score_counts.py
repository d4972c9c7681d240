"""How many scores criteria gave, and how many they could not give, by why: counted with what tenants used."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, select

from headrace_workers.core.ledger.accounting import FinishedJob
from headrace_workers.core.sql.database import insert
from headrace_workers.features.quality.rate_tables import SCORES

Key = tuple[str, str]  # kind of criterion, and the code of why there is no value ("" where there is one)


@dataclass(frozen=True, slots=True)
class ScoreCount:
    """The scores of one kind of criterion that have a value (`not_judged` is ""), or that have none for one reason."""

    criterion: str
    not_judged: str
    scores: int


def scores_of(result: Mapping[str, Any]) -> Iterator[Key]:
    """What is counted of a job's end, for each of its scores."""
    for score in (result.get("judge") or {}).get("scores") or ():
        yield str(score["criterion"]), str(score.get("not_judged") or "")


def count(connection: Connection, jobs: Sequence[FinishedJob]) -> None:
    """Count the scores of these jobs, which have ended."""
    add(connection, Counter(key for job in jobs for key in scores_of(job.result)))


def add(connection: Connection, scores: Mapping[Key, int]) -> None:
    """Add these to what was counted."""
    if not scores:
        return
    statement = insert(connection, SCORES)
    statement = statement.on_conflict_do_update(
        index_elements=["criterion", "not_judged"], set_={"scores": SCORES.c.scores + statement.excluded.scores}
    )
    rows = [{"criterion": kind, "not_judged": code, "scores": scores[kind, code]} for kind, code in sorted(scores)]
    connection.execute(statement, rows)


def counts(connection: Connection) -> tuple[ScoreCount, ...]:
    """All that was counted, in order."""
    query = select(SCORES.c.criterion, SCORES.c.not_judged, SCORES.c.scores)
    return tuple(
        ScoreCount(*row) for row in connection.execute(query.order_by(SCORES.c.criterion, SCORES.c.not_judged))
    )
