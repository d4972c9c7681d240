from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.workers.core.ledger.conftest import tables_of

from headrace_workers.core.ledger.ledger import Ledger


@pytest.fixture(params=["sqlite", "postgresql"])
def ledger_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The URL of an empty ledger, on each database."""
    yield from tables_of(request, tmp_path)


@pytest.fixture
def ledger(ledger_url: str) -> Iterator[Ledger]:
    ledger = Ledger.at(ledger_url)
    yield ledger
    ledger.close()
