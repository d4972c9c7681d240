"""A ledger, and brokers with topics of one's own."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.workers.ledger_jobs import sqlite_ledger

from headrace_workers.ledger.ledger import Ledger


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    """An empty, migrated ledger."""
    with sqlite_ledger(tmp_path) as ledger:
        yield ledger
