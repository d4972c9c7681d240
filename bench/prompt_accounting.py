"""`python -m bench.prompt_accounting …` is headrace that accounts for jobs a second after their end, not minutes."""

from headrace_workers.__main__ import main
from headrace_workers.core.ledger import accounting
from headrace_workers.runtime.bridge import reap

if __name__ == "__main__":
    accounting.LAG_MS = 1_000  # type: ignore[misc]
    reap.COUNT_EVERY = reap.PRUNE_EVERY = 1.0  # type: ignore[misc]
    main()
