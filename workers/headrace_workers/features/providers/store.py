"""The providers that tenants allow, as the ledger keeps them."""

from collections.abc import Collection

from sqlalchemy import Connection, delete, select

from headrace_workers.core.sql.database import among, insert, now_ms
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.features.providers.tables import ALLOWED_PROVIDERS


def _allow(connection: Connection, tenant: str, providers: Collection[str]) -> None:
    """Allow these providers, in addition to the tenant's present ones."""
    for provider in sorted(providers):
        row = {"tenant": tenant, "provider": provider, "allowed_at": now_ms()}
        connection.execute(insert(connection, ALLOWED_PROVIDERS).values(row).on_conflict_do_nothing())


def _revoke(connection: Connection, tenant: str, providers: Collection[str] | None) -> list[str]:
    """Stop allowing these providers, or all; return the ones that were allowed."""
    which = ALLOWED_PROVIDERS.c.tenant == tenant
    if providers is not None:
        which &= among(connection, ALLOWED_PROVIDERS.c.provider, sorted(providers))
    gone = connection.execute(delete(ALLOWED_PROVIDERS).where(which).returning(ALLOWED_PROVIDERS.c.provider))
    return sorted(gone.scalars())


def _by_tenant(connection: Connection, tenants: Collection[str]) -> dict[str, frozenset[str]]:
    """Return the providers that each of these tenants allows. A tenant that allows none is left out."""
    columns = ALLOWED_PROVIDERS.c.tenant, ALLOWED_PROVIDERS.c.provider
    rows = connection.execute(select(*columns).where(among(connection, ALLOWED_PROVIDERS.c.tenant, sorted(tenants))))
    found: dict[str, set[str]] = {}
    for row in rows:
        found.setdefault(row.tenant, set()).add(row.provider)
    return {tenant: frozenset(providers) for tenant, providers in found.items()}


def _listed(connection: Connection, tenant: str | None, limit: int, after: str | None) -> dict[str, list[str]]:
    """Return the lists of tenants, or of one, by tenant: at most `limit`, and only those after the tenant `after`."""
    owners = select(ALLOWED_PROVIDERS.c.tenant).distinct().order_by(ALLOWED_PROVIDERS.c.tenant).limit(limit)
    if tenant is not None:
        owners = owners.where(ALLOWED_PROVIDERS.c.tenant == tenant)
    if after is not None:
        owners = owners.where(ALLOWED_PROVIDERS.c.tenant > after)
    names = list(connection.execute(owners).scalars())
    found = _by_tenant(connection, names)
    return {name: sorted(found[name]) for name in names}


class AllowedProviders(LedgerStore):
    """The allow-lists of one ledger. Thread-safe. Unavailable when it does not answer."""

    allow = durable(_allow)
    revoke = durable(_revoke)
    by_tenant = reads(_by_tenant)
    listed = reads(_listed)
