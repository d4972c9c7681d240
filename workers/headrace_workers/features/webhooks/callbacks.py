"""Callbacks at a door: whether they lead somewhere. It is asked before anything is taken, that would only die later.

Names are not resolved here: where they lead may change, and is seen at each delivery.
"""

from collections.abc import Callable, Collection

from headrace_schemas.callback import Recipient
from headrace_schemas.errors import InvalidRecord
from headrace_workers.features.webhooks import urls
from headrace_workers.features.webhooks.allowed_targets import Reach

Named = tuple[str, str]  # the tenant, and the id of the endpoint
Unknown = Callable[[Collection[Named]], Collection[Named]]  # those that are not there, or another tenant's


def named_by(tenant: str, callback: Recipient | None) -> Named | None:
    """The endpoint that a callback names, if it does."""
    return None if callback is None or callback.endpoint is None else (tenant, callback.endpoint)


def no_such_endpoint(named: Named) -> InvalidRecord:
    """What is told of a callback to an endpoint that is not there."""
    tenant, endpoint = named
    return InvalidRecord(
        f"callback.endpoint: the tenant {tenant} has registered no webhook endpoint {endpoint}; "
        f"`headrace webhooks list --tenant {tenant}` shows those that it has"
    )


def check_url(callback: Recipient | None, reach: Reach) -> None:
    """InvalidRecord where a callback's URL leads where webhooks may not go, as far as the URL itself tells."""
    if callback is None or callback.url is None:
        return
    try:
        urls.read(callback.url, reach)
    except urls.UrlRefused as error:
        raise InvalidRecord(f"callback.url: {error}") from error


def check(tenant: str, callback: Recipient | None, unknown: Unknown, reach: Reach) -> None:
    """InvalidRecord where a callback leads where webhooks may not go, or names an endpoint that is not there."""
    check_url(callback, reach)
    named = named_by(tenant, callback)
    if named is not None and unknown([named]):
        raise no_such_endpoint(named)
