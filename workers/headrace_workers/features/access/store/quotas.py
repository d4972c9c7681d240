"""The quotas of a ledger: each method is one transaction over quota_rows.py and quota_accounting.py."""

from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.features.access.store import quota_accounting, quota_rows


class Quotas(LedgerStore):
    """The quotas of one ledger's tenants. Thread-safe. Unavailable when it does not answer."""

    find = reads(quota_rows.quotas)
    put = durable(quota_rows.put)
    remove = durable(quota_rows.remove)
    reserve = durable(quota_accounting.reserve_ahead)
    release = durable(quota_accounting.release)
