"""Counts of scores by criterion, and of missing scores by reason: their table, and its queries."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from sqlalchemy import BigInteger, Column, Connection, Row, String, Table, select

from headrace_workers.core.ledger.accounting import FinishedJob
from headrace_workers.core.sql.database import insert
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.core.tables import METADATA

# The scores of all jobs that are counted as having ended (see `usage_counted`), by kind of criterion. Names of criteria
# are users', and without bound.
SCORES: Final = Table(
    "scores_counted",
    METADATA,
    Column("criterion", String(64), primary_key=True),
    Column("not_judged", String(32), primary_key=True),  # the code of why there is no value; "" where there is one
    Column("scores", BigInteger, nullable=False),
)


ScoreKey = tuple[str, str]  # kind of criterion, and the code of why there is no value ("" where there is one)


def _scores_of(result: Mapping[str, Any]) -> Iterator[ScoreKey]:
    for score in (result.get("judge") or {}).get("scores") or ():
        yield str(score["criterion"]), str(score.get("not_judged") or "")


def count_scores(connection: Connection, jobs: Sequence[FinishedJob]) -> None:
    """Count the scores of these jobs, which have ended."""
    add_scores(connection, Counter(key for job in jobs for key in _scores_of(job.result)))


def add_scores(connection: Connection, scores: Mapping[ScoreKey, int]) -> None:
    """Add these to what was counted."""
    if not scores:
        return
    statement = insert(connection, SCORES)
    statement = statement.on_conflict_do_update(
        index_elements=["criterion", "not_judged"], set_={"scores": SCORES.c.scores + statement.excluded.scores}
    )
    rows = [{"criterion": kind, "not_judged": code, "scores": scores[kind, code]} for kind, code in sorted(scores)]
    connection.execute(statement, rows)


def counts(connection: Connection) -> Sequence[Row[Any]]:
    """Return the rows of all counts, in order."""
    return connection.execute(select(SCORES).order_by(SCORES.c.criterion, SCORES.c.not_judged)).all()


class ScoreCounts(LedgerStore):
    """The counts of scores in one ledger. Thread-safe. Unavailable when the database does not answer."""

    all = reads(counts)
