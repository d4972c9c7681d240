"""One ledger for each test, on each database; and patience with receivers that are there."""

import pytest
from tests.workers.core.ledger.conftest import ledger
from tests.workers.ledger_in_short import ledger_url

__all__ = ["ledger", "ledger_url"]


@pytest.fixture(autouse=True)
def _patience(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that is there is connected to, however busy the machine is."""
    monkeypatch.setattr("headrace_workers.features.webhooks.sender.CONNECT_SECONDS", 60.0)
