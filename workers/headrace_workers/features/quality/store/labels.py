"""Labels of people, beside the verdicts that they are compared with. Each method is one transaction."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import ColumnElement, Connection, Row, and_, delete, func, select

from headrace_schemas.errors import Category
from headrace_schemas.review import Review
from headrace_workers.core.ledger.dead_letters import Burial, ReceivedReview, refusal
from headrace_workers.core.sql.by_pages import by_pages
from headrace_workers.core.sql.database import insert, now_ms, reading, writing
from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.features.quality.store import verdicts
from headrace_workers.features.quality.store.verdicts import Verdict
from headrace_workers.features.quality.tables import LABELS

MOST_JOBS: Final = 500_000  # of a tenant, the newest, whose ends are read for their verdicts


@dataclass(frozen=True, slots=True)
class Added:
    """The number of new labels, and the refused labels by their places, each with the reason."""

    new: int
    refused: dict[int, str]


@dataclass(frozen=True, slots=True)
class Which:
    """Labels of a tenant about a criterion or category; of one person or job alone, where they are named."""

    tenant: str
    kind: str
    about: str
    who: str | None = None
    job_id: str | None = None

    @property
    def clause(self) -> ColumnElement[bool]:
        """Return the condition on their rows."""
        exact = ((LABELS.c.who, self.who), (LABELS.c.job_id, self.job_id))
        mine = and_(LABELS.c.tenant == self.tenant, LABELS.c.kind == self.kind, LABELS.c.about == self.about)
        return and_(mine, *(column == value for column, value in exact if value is not None))


class Labels(LedgerStore):
    """The labels of one ledger. Thread-safe. Unavailable when it does not answer."""

    def add(self, reviews: Sequence[Review]) -> Added:
        """Take these labels in, a few hundred at most; one that is there already changes nothing."""
        with writing(self._engine) as tx:
            return add(tx, reviews)

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

    def count(self, which: Which) -> int:
        """Count these."""
        with reading(self._engine) as tx:
            return int(tx.execute(select(func.count()).select_from(LABELS).where(which.clause)).scalar_one())

    def remove(self, which: Which) -> int:
        """Forget these; return how many."""
        with writing(self._engine) as tx:
            return tx.execute(delete(LABELS).where(which.clause)).rowcount

    def with_verdicts(self, tenant: str, most: int = MOST_JOBS) -> tuple[list[Row[Any]], list[Verdict]]:
        """Return a tenant's labels, and the verdicts of its `most` newest jobs by the criteria and categories that they
        are about.
        """
        with reading(self._engine) as tx:
            rows = list(tx.execute(select(LABELS).where(LABELS.c.tenant == tenant)).all())
            wanted = {(row.kind, row.about) for row in rows}
            return rows, list(verdicts.read(tx, tenant, wanted, most)) if wanted else []


def add(connection: Connection, reviews: Sequence[Review]) -> Added:
    """Take labels in, in a transaction of the caller's. Only of jobs that are known, and their own tenant's."""
    known = verdicts.known(connection, {review.job_id for review in reviews})
    refused = {
        place: f"tenant {review.tenant} has no job {review.job_id} that is still known"
        for place, review in enumerate(reviews)
        if known.get(review.job_id) != review.tenant
    }
    rows = {review.id: _row(review) for place, review in enumerate(reviews) if place not in refused}
    if not rows:
        return Added(0, refused)
    statement = insert(connection, LABELS).values([rows[name] for name in sorted(rows)])
    new = connection.execute(statement.on_conflict_do_nothing(index_elements=["id"]).returning(LABELS.c.id))
    return Added(len(new.all()), refused)


def take(connection: Connection, sent: Sequence[ReceivedReview]) -> list[Burial]:
    """Take in what events brought; return the letters of those labels that were not taken."""
    refused = add(connection, [each.review for each in sent]).refused
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


def _row(review: Review) -> dict[str, Any]:
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
    }
