"""The keys that sign for an endpoint: opened only where something is sent, and never written down."""

from headrace_workers.features.webhooks.sealing import Sealer
from headrace_workers.features.webhooks.signing import hint, new_secret
from headrace_workers.features.webhooks.store.endpoints import Endpoint, callbacks_id
from headrace_workers.features.webhooks.store.webhooks import Webhooks


def keys_of(endpoint: Endpoint, webhooks: Webhooks, sealer: Sealer, now: int) -> tuple[str, ...]:
    """The endpoint's secret, and while it rotates the one before. `now` is in ms. ConfigurationError where what is kept
    cannot be opened; Unavailable with the ledger.
    """
    if endpoint.secret is None:
        endpoint = callbacks_of(endpoint.tenant, webhooks, sealer)
    kept = [endpoint.secret]
    if endpoint.old_until is not None and endpoint.old_until > now:
        kept.append(endpoint.old_secret)
    return tuple(sealer.open(each, endpoint.secret_of) for each in kept if each is not None)


def callbacks_of(tenant: str, webhooks: Webhooks, sealer: Sealer) -> Endpoint:
    """Return the tenant's own endpoint for callbacks. Make its secret if it has none. Raise Unavailable."""
    secret = new_secret("v1")
    return webhooks.callbacks(tenant, sealer.seal(secret, callbacks_id(tenant)), hint(secret))
