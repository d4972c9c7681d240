"""The quotas of a ledger: each method is one transaction over token_quotas.py."""

from headrace_workers.core.sql.engines import LedgerStore
from headrace_workers.core.sql.transactions import durable, reads
from headrace_workers.features.access.store import token_quotas


class Quotas(LedgerStore):
    """The quotas of one ledger's tenants. Thread-safe. Unavailable when it does not answer."""

    find = reads(token_quotas.quotas)
    put = durable(token_quotas.put)
    remove = durable(token_quotas.remove)
    reserve = durable(token_quotas.reserve_ahead)
    release = durable(token_quotas.release)
