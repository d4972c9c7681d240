"""The fixture `ledger_url` for what is built on a ledger: on SQLite each time, on PostgreSQL among the slow tests.

What they ask of it in SQL is the ledger's, whose own tests run on both.
"""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.workers.core.ledger.conftest import tables_of


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    yield from tables_of(request, tmp_path)
