"""Finding the receiver of webhooks that a path names."""

import re
from typing import Annotated, Final

from headrace_workers.features.webhooks.feature import WEBHOOKS_READ, WEBHOOKS_WRITE
from headrace_workers.features.webhooks.store.endpoints import Endpoint
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.services import Services

MOST: Final = 100  # of a page
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,36}", re.ASCII)

Reads = Annotated[Caller, needs(WEBHOOKS_READ)]
Writes = Annotated[Caller, needs(WEBHOOKS_WRITE)]


async def endpoint_of(services: Services, caller: Caller, endpoint_id: str) -> Endpoint:
    """Return an endpoint of the caller's. Raise 404 if there is none of this id."""
    if not _ID.fullmatch(endpoint_id):
        raise no_endpoint()
    found = await services.ask(services.ledger.of(Webhooks).endpoint, endpoint_id, caller.tenant)
    if found is None or found.origin != "registered":
        raise no_endpoint()
    return found


def no_endpoint() -> Refusal:
    """Return the refusal (404) for an unknown endpoint."""
    return Refusal(Why.NOT_FOUND, "this tenant has no webhook endpoint of this id", param="webhook_endpoint_id")
