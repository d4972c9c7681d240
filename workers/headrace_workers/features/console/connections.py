"""The console's own way to the ledger: two connections, and two seconds for a statement. A page may be refused; the
pipeline never waits for it.
"""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Final, ParamSpec, TypeVar

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import connect, parsed_url
from headrace_workers.http.services import ask_on

P = ParamSpec("P")
T = TypeVar("T")

CONNECTIONS: Final = 2
STATEMENT_SECONDS: Final = 2


class ConsoleReads:
    """Reads of the console, on threads of their own."""

    def __init__(self, url: str) -> None:
        parsed = parsed_url(url).update_query_dict({"timeout": str(STATEMENT_SECONDS)})
        if parsed.get_backend_name() == "postgresql":  # a page is not worth several processes of the database
            options = f"{parsed.query.get('options', '')} -c max_parallel_workers_per_gather=0"
            parsed = parsed.update_query_dict({"options": options})
        self.ledger = Ledger(connect(parsed))
        self._executor = ThreadPoolExecutor(CONNECTIONS, "console")  # a thread uses one connection at a time

    async def ask(self, patience: float, call: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the ledger. Raise 503 if it does not answer within so many seconds."""
        return await ask_on(self._executor, patience, call, *args, **kwargs)

    def close(self) -> None:
        """Close the connections. A read that is under way ends by its time limit, and nobody waits for it."""
        self._executor.shutdown(wait=False, cancel_futures=True)
        self.ledger.close()
