"""Check of the ledger that every process makes before it starts."""

from headrace_workers.core.ledger.deployment import Deployment, Fact
from headrace_workers.core.migrate import require_current
from headrace_workers.core.sql.database import connect


def require_ledger(url: str, prefix: str) -> None:
    """Raise ConfigurationError unless the ledger has the tables that this code needs, and belongs to the deployment
    whose topics have this prefix.
    """
    engine = connect(url)
    try:
        require_current(engine)
        Deployment(engine).require(Fact.PREFIX, prefix)
    finally:
        engine.dispose()
