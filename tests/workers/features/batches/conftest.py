import pytest
from tests.workers.core.ledger.conftest import ledger  # noqa: F401 - a fixture
from tests.workers.features.batches.running import Running
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture


@pytest.fixture
def running(ledger, tmp_path):  # noqa: F811
    return Running(ledger, tmp_path)
