"""Verdicts of machines about jobs, by criterion and by category of moderation: read from jobs' ends, and kept longer.

A job's end is deleted after the ledger's retention, but calibration uses labels of weeks. So the verdicts of deleted
jobs are kept in a table of their own, for each criterion and category that a tenant's people label.
"""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from typing import Final, NamedTuple

from pydantic_core import from_json
from sqlalchemy import Connection, and_, delete, select

from headrace_schemas.event_types import EVENTS
from headrace_schemas.events import Result
from headrace_workers.core.sql.by_pages import by_pages
from headrace_workers.core.sql.database import among, insert, now_ms
from headrace_workers.core.tables import JOBS
from headrace_workers.features.quality.tables import LABELS, VERDICTS

KEPT_MS: Final = 90 * 86_400_000  # verdicts without a label; those with one are kept as long as it is
_AT_ONCE: Final = 500
(_RESULT,) = (event.name for event in EVENTS if event.cls is Result)

Key = tuple[str, str]  # kind, about


class Verdict(NamedTuple):
    """A verdict about a job by a criterion, or for a category. `value` is None where it could not be judged.

    `version` is that of a criterion with a name; `probability` that with which the job was drawn to be judged, None
    where all are. `not_judged` is the code of why there is no value, as long as the job is known.
    """

    job_id: str
    kind: str
    about: str
    version: str | None
    value: float | None
    probability: float | None = None
    not_judged: str | None = None


def verdicts_in(job_id: str, end: bytes, wanted: Collection[Key]) -> list[Verdict]:
    """Return the wanted verdicts of a job's receipt.

    Two criteria with one name have none: a label could mean either.
    """
    receipt = from_json(end)
    scores = (receipt.get("judge") or {}).get("scores", ())
    called = [(score.get("name") or score["criterion"], score) for score in scores]
    times = Counter(name for name, _ in called)
    found = [
        Verdict(
            job_id,
            "criterion",
            name,
            score.get("version"),
            score.get("value"),
            score.get("probability"),
            score.get("not_judged"),
        )
        for name, score in called
        if ("criterion", name) in wanted and times[name] == 1
    ]
    categories = (receipt.get("moderation") or {}).get("categories") or {}
    return found + [
        Verdict(job_id, "category", name, None, float(flagged))
        for name, flagged in categories.items()
        if ("category", name) in wanted
    ]


def labelled(connection: Connection, tenants: Collection[str]) -> dict[str, set[Key]]:
    """Return what the people of these tenants label."""
    found: dict[str, set[Key]] = {}
    query = select(LABELS.c.tenant, LABELS.c.kind, LABELS.c.about).distinct()
    for tenant, kind, about in connection.execute(query.where(among(connection, LABELS.c.tenant, list(tenants)))):
        found.setdefault(tenant, set()).add((kind, about))
    return found


def read(connection: Connection, tenant: str, wanted: Collection[Key], limit: int) -> Iterator[Verdict]:
    """Yield the verdicts of a tenant's jobs, the newest jobs first, of a limited number of jobs; then as many kept
    ones.
    """
    ends = select(JOBS.c.ended_at, JOBS.c.id, JOBS.c.terminal).where(
        JOBS.c.tenant == tenant, JOBS.c.terminal_type == _RESULT, JOBS.c.ended_at.is_not(None)
    )
    for job in by_pages(connection, ends, [JOBS.c.ended_at, JOBS.c.id], limit, newest=True):
        yield from verdicts_in(job.id, job.terminal, wanted)
    kept = select(VERDICTS).where(VERDICTS.c.tenant == tenant)
    for row in by_pages(connection, kept, [VERDICTS.c.job_id, VERDICTS.c.kind, VERDICTS.c.about], limit):
        if (row.kind, row.about) in wanted:
            yield Verdict(row.job_id, row.kind, row.about, row.version, row.value, row.probability)


def keep(connection: Connection, job_ids: Sequence[str]) -> None:
    """Keep what is labelled of these jobs' verdicts: they are about to be forgotten."""
    judged = and_(among(connection, JOBS.c.id, job_ids), JOBS.c.terminal_type == _RESULT)
    tenants = connection.execute(select(JOBS.c.tenant).where(judged).distinct()).scalars()
    wanted = labelled(connection, set(tenants))
    if not wanted:
        return
    query = select(JOBS.c.id, JOBS.c.tenant, JOBS.c.terminal, JOBS.c.ended_at).where(
        judged, among(connection, JOBS.c.tenant, list(wanted))
    )
    rows = [
        {
            **{name: value for name, value in verdict._asdict().items() if name != "not_judged"},
            "tenant": job.tenant,
            "judged_at": job.ended_at,
        }
        for job in connection.execute(query).all()
        for verdict in verdicts_in(job.id, job.terminal, wanted.get(job.tenant, ()))
    ]
    if rows:  # row by row as far as the database goes: no statement takes as many parameters as there may be
        connection.execute(insert(connection, VERDICTS).on_conflict_do_nothing(), rows)


def forget(connection: Connection, _older_than_ms: int) -> bool:
    """Forget verdicts of long ago that have no label, a bounded number; return True if there may be more."""
    same = and_(*(LABELS.c[name] == VERDICTS.c[name] for name in ("tenant", "kind", "about", "job_id")))
    unlabelled = ~select(LABELS.c.id).where(same).exists()
    query = select(VERDICTS.c.job_id).where(VERDICTS.c.judged_at < now_ms() - KEPT_MS, unlabelled).limit(_AT_ONCE)
    old = list(connection.execute(query.with_for_update(skip_locked=True)).scalars())
    if old:
        gone = among(connection, VERDICTS.c.job_id, old) & unlabelled
        connection.execute(delete(VERDICTS).where(gone))
    return len(old) == _AT_ONCE


def known(connection: Connection, job_ids: Collection[str]) -> dict[str, str]:
    """Return the tenants of the known jobs, also of jobs that only their verdicts name."""
    found: dict[str, str] = {}
    for column, tenant in ((VERDICTS.c.job_id, VERDICTS.c.tenant), (JOBS.c.id, JOBS.c.tenant)):
        query = select(column.label("id"), tenant.label("tenant")).where(among(connection, column, list(job_ids)))
        if column is JOBS.c.id:
            query = query.where(JOBS.c.subject.is_(None))
        found |= {row.id: row.tenant for row in connection.execute(query)}
    return found
