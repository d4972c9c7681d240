"""One ledger for each test, on each database."""

from tests.workers.core.ledger.conftest import ledger, ledger_url

__all__ = ["ledger", "ledger_url"]
