import pytest
from sqlalchemy import insert, select

from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.sql.paging import by_pages
from headrace_workers.core.tables import TURNS


@pytest.mark.parametrize("newest", [False, True])
def test_every_row_comes_once_and_in_order(ledger, newest):
    queue = {"queue": "q", "lane": 1, "urgency": 9, "flow": 0}
    rows = [{**queue, "tenant": f"t{number:04}", "turn": number // 700} for number in range(2_001)]
    with writing(ledger.engine) as tx:
        tx.execute(insert(TURNS), rows)
    keys = [TURNS.c.turn, TURNS.c.tenant]
    query = select(TURNS.c.turn, TURNS.c.tenant).where(TURNS.c.tenant.like("t%"))
    with reading(ledger.engine) as tx:
        tenants = [row.tenant for row in by_pages(tx, query, keys, newest=newest)]
        assert tenants == sorted((row["tenant"] for row in rows), reverse=newest)
        assert [row.tenant for row in by_pages(tx, query, keys, 1_500, newest=newest)] == tenants[:1_500]
        assert len(list(by_pages(tx, query, keys, 1_000, newest=newest))) == 1_000
