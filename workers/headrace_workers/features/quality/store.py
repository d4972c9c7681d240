"""People's labels, the verdicts of machines that they are compared with, and pass rates as last computed."""

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from typing import Any, Final, NamedTuple

from pydantic_core import from_json
from sqlalchemy import ColumnElement, Connection, Row, and_, case, delete, func, select, tuple_

from headrace_schemas.errors import Category
from headrace_schemas.event_types import EVENTS
from headrace_schemas.events import Result
from headrace_schemas.review import Review
from headrace_workers.core.ledger.dead_letters import Burial, ReceivedReview, refusal
from headrace_workers.core.sql.database import among, clock, insert, now_ms, reading, writing
from headrace_workers.core.sql.paging import by_pages
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.core.tables import JOBS
from headrace_workers.features.quality.feature import SAMPLES
from headrace_workers.features.quality.tables import LABELS, RATES, VERDICTS

# Verdicts of machines about jobs, by criterion and by category of moderation: read from jobs' ends, and kept longer.
#
# A job's end is deleted after the ledger's retention, but calibration uses labels of weeks. So the verdicts of deleted
# jobs are kept in a table of their own, for each criterion and category that a tenant's people label.

KEPT_MS: Final = 90 * 86_400_000  # verdicts without a label; those with one are kept as long as it is
_AT_ONCE: Final = 500
(_RESULT,) = (event.name for event in EVENTS if event.cls is Result)

VerdictKey = tuple[str, str]  # kind, about


class Verdict(NamedTuple):
    """A verdict about a job by a criterion, or for a category. `value` is None where it could not be judged;
    `probability` is None where all jobs are judged.
    """

    job_id: str
    kind: str
    about: str
    version: str | None
    value: float | None
    probability: float | None = None
    not_judged: str | None = None


class Sampled(NamedTuple):
    """An answer that a review queue drew for labels: `rule` is its stratum, `state` says what became of it."""

    item: str
    job_id: str
    rule: str
    probability: float
    state: str


def verdicts_in(job_id: str, end: bytes, wanted: Collection[VerdictKey]) -> list[Verdict]:
    """Return the wanted verdicts of a job's receipt; none of two criteria that have one name."""
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


def labelled_subjects(connection: Connection, tenants: Collection[str]) -> dict[str, set[VerdictKey]]:
    """Return what the people of these tenants label."""
    found: dict[str, set[VerdictKey]] = {}
    query = select(LABELS.c.tenant, LABELS.c.kind, LABELS.c.about).distinct()
    for tenant, kind, about in connection.execute(query.where(among(connection, LABELS.c.tenant, list(tenants)))):
        found.setdefault(tenant, set()).add((kind, about))
    return found


def read_verdicts(connection: Connection, tenant: str, wanted: Collection[VerdictKey], limit: int) -> Iterator[Verdict]:
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


def keep_verdicts(connection: Connection, job_ids: Sequence[str]) -> None:
    """Keep what is labelled of these jobs' verdicts: they are about to be forgotten."""
    judged = and_(among(connection, JOBS.c.id, job_ids), JOBS.c.terminal_type == _RESULT)
    tenants = connection.execute(select(JOBS.c.tenant).where(judged).distinct()).scalars()
    wanted = labelled_subjects(connection, set(tenants))
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


def forget_verdicts(connection: Connection, _older_than_ms: int) -> bool:
    """Forget verdicts of long ago that have no label, a bounded number; return True if there may be more."""
    same = and_(*(LABELS.c[name] == VERDICTS.c[name] for name in ("tenant", "kind", "about", "job_id")))
    unlabelled = ~select(LABELS.c.id).where(same).exists()
    query = select(VERDICTS.c.job_id).where(VERDICTS.c.judged_at < now_ms() - KEPT_MS, unlabelled).limit(_AT_ONCE)
    old = list(connection.execute(query.with_for_update(skip_locked=True)).scalars())
    if old:
        gone = among(connection, VERDICTS.c.job_id, old) & unlabelled
        connection.execute(delete(VERDICTS).where(gone))
    return len(old) == _AT_ONCE


def known_tenants(connection: Connection, job_ids: Collection[str]) -> dict[str, str]:
    """Return the tenants of the known jobs, also of jobs that only their verdicts name."""
    found: dict[str, str] = {}
    for column, tenant in ((VERDICTS.c.job_id, VERDICTS.c.tenant), (JOBS.c.id, JOBS.c.tenant)):
        query = select(column.label("id"), tenant.label("tenant")).where(among(connection, column, list(job_ids)))
        if column is JOBS.c.id:
            query = query.where(JOBS.c.subject.is_(None))
        found |= {row.id: row.tenant for row in connection.execute(query)}
    return found


# Labels of answers that people sent to the queue by hand say nothing about the others: nobody drew these.
_ESTIMATES: Final = LABELS.c.item.is_(None) | LABELS.c.probability.is_not(None)
MOST_JOBS: Final = 500_000  # of a tenant, the newest, whose ends are read for their verdicts


@dataclass(frozen=True, slots=True)
class Added:
    """The number of new labels, and the refused labels by their places, each with the reason."""

    new: int
    refused: dict[int, str]


@dataclass(frozen=True, slots=True)
class Which:
    """Labels of a tenant: about a criterion or category, and of one person or job alone, where they are named."""

    tenant: str
    kind: str | None = None
    about: str | None = None
    who: str | None = None
    job_id: str | None = None

    @property
    def clause(self) -> ColumnElement[bool]:
        """Return the condition on their rows."""
        exact = (
            (LABELS.c.kind, self.kind),
            (LABELS.c.about, self.about),
            (LABELS.c.job_id, self.job_id),
            (LABELS.c.who, self.who),
        )
        mine = LABELS.c.tenant == self.tenant
        return and_(mine, *(column == value for column, value in exact if value is not None))


class Labels(LedgerStore):
    """The labels of one ledger. Thread-safe. Unavailable when it does not answer."""

    def add(self, reviews: Sequence[Review]) -> Added:
        """Take these labels in, a few hundred at most; one that is there already changes nothing."""
        with writing(self._engine) as tx:
            return add_reviews(tx, reviews)

    def counted(self, tenant: str | None = None) -> list[Row[Any]]:
        """Return what is labelled: tenant, kind, about; how many labels, jobs and people; the newest."""
        query = select(
            LABELS.c.tenant,
            LABELS.c.kind,
            LABELS.c.about,
            func.count().label("labels"),
            func.count(LABELS.c.job_id.distinct()).label("jobs"),
            func.count(LABELS.c.who.distinct()).label("people"),
            func.max(LABELS.c.said_at).label("newest"),
        ).group_by(LABELS.c.tenant, LABELS.c.kind, LABELS.c.about)
        if tenant is not None:
            query = query.where(LABELS.c.tenant == tenant)
        with reading(self._engine) as tx:
            return list(tx.execute(query.order_by(LABELS.c.tenant, LABELS.c.kind, LABELS.c.about)).all())

    def all(self, tenant: str | None = None) -> Iterator[Row[Any]]:
        """Yield every label, oldest first, read as it is asked for."""
        query = select(LABELS)
        if tenant is not None:
            query = query.where(LABELS.c.tenant == tenant)
        with reading(self._engine) as tx:
            yield from by_pages(tx, query, [LABELS.c.said_at, LABELS.c.id])

    def page(self, which: Which, after: str | None, limit: int) -> list[Row[Any]] | None:
        """Return so many of these, by criterion or category and by job, after the label of the id `after`; None if
        there is no such label.
        """
        keys = (LABELS.c.kind, LABELS.c.about, LABELS.c.job_id, LABELS.c.id)
        query = select(LABELS).where(which.clause).order_by(*keys).limit(limit)
        with reading(self._engine) as tx:
            if after is not None:
                one = select(*keys).where(LABELS.c.tenant == which.tenant, LABELS.c.id == after)
                last = tx.execute(one).first()
                if last is None:
                    return None
                query = query.where(tuple_(*keys) > tuple(last))
            return list(tx.execute(query).all())

    def count(self, which: Which) -> int:
        """Count these."""
        with reading(self._engine) as tx:
            return int(tx.execute(select(func.count()).select_from(LABELS).where(which.clause)).scalar_one())

    def remove(self, which: Which) -> int:
        """Forget these; return how many."""
        with writing(self._engine) as tx:
            return tx.execute(delete(LABELS).where(which.clause)).rowcount

    def with_verdicts(self, tenant: str, most: int = MOST_JOBS) -> tuple[list[Row[Any]], list[Verdict], list[Sampled]]:
        """Return a tenant's labels that count in estimates, the verdicts of its `most` newest jobs by the criteria and
        categories that they are about, and as many of what review queues drew.
        """
        with reading(self._engine) as tx:
            rows = list(tx.execute(select(LABELS).where(LABELS.c.tenant == tenant, _ESTIMATES)).all())
            wanted = {(row.kind, row.about) for row in rows}
            if not wanted:
                return rows, [], []
            samples = [sample for drawn in SAMPLES.values() for sample in drawn(tx, tenant, most)]
            return rows, list(read_verdicts(tx, tenant, wanted, most)), samples


def add_reviews(connection: Connection, reviews: Sequence[Review], item: str | None = None) -> Added:
    """Take labels in, in a transaction of the caller's. Only of jobs that are known, and their own tenant's. `item` is
    the review item whose labels these are.
    """
    known = known_tenants(connection, {review.job_id for review in reviews})
    refused = {
        place: f"tenant {review.tenant} has no job {review.job_id} that is still known"
        for place, review in enumerate(reviews)
        if known.get(review.job_id) != review.tenant
    }
    rows = {review.id: _row(review, item) for place, review in enumerate(reviews) if place not in refused}
    if not rows:
        return Added(0, refused)
    statement = insert(connection, LABELS).values([rows[name] for name in sorted(rows)])
    new = connection.execute(statement.on_conflict_do_nothing(index_elements=["id"]).returning(LABELS.c.id))
    return Added(len(new.all()), refused)


def remove_labels(connection: Connection, item: str, who: str) -> None:
    """Forget a person's labels of a review item."""
    connection.execute(delete(LABELS).where(LABELS.c.item == item, LABELS.c.who == who))


def take_reviews(connection: Connection, sent: Sequence[ReceivedReview]) -> list[Burial]:
    """Take in what events brought; return the letters of those labels that were not taken."""
    refused = add_reviews(connection, [review.review for review in sent]).refused
    return [
        refusal(
            sent[place].record,
            Category.INVALID,
            reason,
            refers_to=sent[place].review.job_id,
            tenant=sent[place].review.tenant,
            traceparent=sent[place].traceparent,
        )
        for place, reason in sorted(refused.items())
    ]


def review_of(row: Row[Any]) -> Review:
    """Return the label of a row."""
    value = {"label": bool(row.value)} if row.value in (0.0, 1.0) else {"score": row.value}
    return Review.model_validate(
        {
            "job_id": row.job_id,
            "tenant": row.tenant,
            row.kind: row.about,
            **value,
            "who": row.who,
            "when": datetime.fromtimestamp(row.said_at / 1000, UTC),
            "probability": row.probability,
        }
    )


def _row(review: Review, item: str | None) -> dict[str, Any]:
    return {
        "id": review.id,
        "tenant": review.tenant,
        "job_id": review.job_id,
        "kind": review.kind,
        "about": review.about,
        "value": review.value,
        "who": review.who,
        "said_at": review.said_at,
        "probability": review.probability,
        "taken_at": now_ms(),
        "item": item,
    }


class LabelledJobs(NamedTuple):
    """The jobs that people labelled by a criterion or for a category: how many there are, and the sum of their labels
    (each job's mean). `of_items` counts their review items, `unknown` the labels whose draw is not known.
    """

    about: str
    jobs: int
    passed: float
    of_items: int
    unknown: int


def labelled_jobs(connection: Connection, tenant: str) -> list[LabelledJobs]:
    """Return what is labelled of a tenant's jobs, as far as estimates count it, criteria before categories."""
    labels = LABELS.c
    of_jobs = (
        select(
            labels.kind,
            labels.about,
            func.avg(labels.value).label("value"),
            func.count(labels.item.distinct()).label("of_items"),
            func.sum(case((labels.probability.is_(None), 1), else_=0)).label("unknown"),
        )
        .where(labels.tenant == tenant, _ESTIMATES)
        .group_by(labels.kind, labels.about, labels.job_id)
        .subquery()
        .c
    )
    sums = (func.sum(column) for column in (of_jobs.value, of_jobs.of_items, of_jobs.unknown))
    query = select(of_jobs.about, func.count(), *sums).group_by(of_jobs.kind, of_jobs.about)
    return [
        LabelledJobs(about, int(jobs), float(passed), int(of_items), int(unknown))
        for about, jobs, passed, of_items, unknown in connection.execute(
            query.order_by(of_jobs.kind.desc(), of_jobs.about)
        )
    ]


def labels_of_items(connection: Connection, tenant: str, since: int, most: int) -> Sequence[Row[Any]]:
    """Return a tenant's labels of review items, said from this time on (ms): the newest so many."""
    labels = LABELS.c
    query = (
        select(labels.item, labels.kind, labels.about, labels.who, labels.said_at, labels.value)
        .where(labels.tenant == tenant, labels.item.is_not(None), labels.said_at >= since)
        .order_by(labels.said_at.desc(), labels.id)
        .limit(most)
    )
    return [*connection.execute(query)]


MOST: Final = 1_000  # that are shown
_MOST_OF_A_TENANT: Final = 100


@dataclass(frozen=True, slots=True)
class PassRate:
    """The mean verdict of people by a criterion, with its confidence interval at `level`."""

    criterion: str
    version: str
    value: float
    low: float
    high: float
    level: float
    labels: int
    verdicts: int
    reason: str | None = None


def read_pass_rates(connection: Connection) -> list[Row[Any]]:
    """Return the pass rates of all tenants, a bounded number."""
    order = (RATES.c.tenant, RATES.c.criterion, RATES.c.version)
    return list(connection.execute(select(RATES).order_by(*order).limit(MOST)).all())


class PassRates(LedgerStore):
    """The pass rates of one ledger. Thread-safe. Unavailable when it does not answer."""

    def put(self, tenant: str, rates: Sequence[PassRate]) -> None:
        """Replace the pass rates of a tenant."""
        with writing(self._engine) as tx:
            now = clock(tx)
            tx.execute(delete(RATES).where(RATES.c.tenant == tenant))
            rows = [{"tenant": tenant, "computed_at": now, **asdict(rate)} for rate in rates[:_MOST_OF_A_TENANT]]
            if rows:
                tx.execute(RATES.insert(), rows)

    all = reads(read_pass_rates)

    def tenants(self) -> list[str]:
        """Return the tenants that have pass rates."""
        with reading(self._engine) as tx:
            return list(tx.execute(select(RATES.c.tenant).distinct()).scalars())
