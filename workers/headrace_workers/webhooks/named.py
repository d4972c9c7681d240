"""Endpoints that callbacks name: whether the tenant has registered them. A door asks before it takes anything."""

from collections.abc import Callable, Collection

from headrace_schemas.callback import Recipient
from headrace_schemas.errors import InvalidRecord

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


def check(named: Named | None, unknown: Unknown) -> None:
    """InvalidRecord where a callback names an endpoint that is not there."""
    if named is not None and unknown([named]):
        raise no_such_endpoint(named)
