"""Use counts of knowledge bases: a worker that starts loads the most used bases."""

from collections.abc import Mapping
from typing import Final, NamedTuple

from sqlalchemy import Connection, and_, case, delete, func, or_, select

from headrace_workers.core.sql.database import clock, insert, now_ms
from headrace_workers.features.knowledge.tables import BASE_USES, DOCUMENTS

_DAY_MS: Final = 86_400_000
_LATELY_MS: Final = 7 * _DAY_MS


class LatelyUsed(NamedTuple):
    """A base that was asked or filled in the last week, and how many passages it has."""

    tenant: str
    knowledge: str
    passages: int


def count(connection: Connection, counts: Mapping[tuple[str, str], int]) -> None:
    """Add the number of questions to each base, by tenant and name. Questions of earlier days count half."""
    now = clock(connection)
    for (tenant, knowledge), questions in sorted(counts.items()):  # in one order, since others count beside us
        new = insert(connection, BASE_USES).values(
            tenant=tenant, knowledge=knowledge, questions=questions, asked_at=now
        )
        before = case(
            (BASE_USES.c.asked_at < now - now % _DAY_MS, BASE_USES.c.questions / 2), else_=BASE_USES.c.questions
        )
        connection.execute(
            new.on_conflict_do_update(
                index_elements=["tenant", "knowledge"], set_={"questions": before + questions, "asked_at": now}
            )
        )


def lately(connection: Connection, limit: int) -> list[LatelyUsed]:
    """Return the bases that were asked or filled in the last week: those asked most first, then the newest."""
    since = now_ms() - _LATELY_MS
    ours = and_(BASE_USES.c.tenant == DOCUMENTS.c.tenant, BASE_USES.c.knowledge == DOCUMENTS.c.knowledge)
    asked_at, filled_at = func.max(BASE_USES.c.asked_at), func.max(DOCUMENTS.c.added_at)
    passages = func.sum(DOCUMENTS.c.chunks)
    query = (
        select(DOCUMENTS.c.tenant, DOCUMENTS.c.knowledge, passages.label("passages"))
        .select_from(DOCUMENTS.outerjoin(BASE_USES, ours))
        .group_by(DOCUMENTS.c.tenant, DOCUMENTS.c.knowledge)
        .having(and_(passages > 0, or_(asked_at > since, filled_at > since)))
        .order_by(func.coalesce(func.max(BASE_USES.c.questions), 0.0).desc(), filled_at.desc())
        .limit(limit)
    )
    return [LatelyUsed(row.tenant, row.knowledge, int(row.passages)) for row in connection.execute(query)]


def forget(connection: Connection, _older_than_ms: int) -> bool:
    """Forget the counts of bases that nobody asked in the last week; return False, since none is left."""
    connection.execute(delete(BASE_USES).where(BASE_USES.c.asked_at <= now_ms() - _LATELY_MS))
    return False
