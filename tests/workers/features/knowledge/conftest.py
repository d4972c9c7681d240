from tests.workers.core.ledger.conftest import ledger  # noqa: F401 - a fixture
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
