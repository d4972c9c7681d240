"""Records that come again under the id of a job that is known: with what it came with, or with something else."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import BigInteger, Connection, bindparam, func, select
from sqlalchemy.dialects.postgresql import ARRAY

from headrace_workers.ledger.tables import JOBS


def same(connection: Connection, records: Sequence[tuple[str, bytes]]) -> frozenset[int]:
    """The places of those of these (job's id, value) whose job is known and came with this very value."""
    if not records:
        return frozenset()
    ids, values = [job_id for job_id, _ in records], [value for _, value in records]
    if connection.dialect.name == "postgresql":
        found = connection.execute(_same_many(), {"n": list(range(len(ids))), "ids": ids, "values": values})
        return frozenset(found.scalars())
    return frozenset(
        n
        for n, (job_id, value) in enumerate(records)
        if connection.execute(_SAME, {"job": job_id, "value": value}).first()
    )


_SAME = select(JOBS.c.id).where(JOBS.c.id == bindparam("job"), JOBS.c.payload == bindparam("value"))


@lru_cache
def _same_many() -> Any:
    came = (
        func.unnest(
            bindparam("n", type_=ARRAY(BigInteger)),
            bindparam("ids", type_=ARRAY(JOBS.c.id.type)),
            bindparam("values", type_=ARRAY(JOBS.c.payload.type)),
        )
        .table_valued("n", "id", "value")
        .render_derived()
    )
    return select(came.c.n).join(JOBS, JOBS.c.id == came.c.id).where(JOBS.c.payload == came.c.value)
