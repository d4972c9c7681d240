"""Operations on endpoints: register, change, rotate, test, and the keys that sign for them. The command line and the
HTTP API share them.
"""

import time
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from headrace_schemas.callback import TEST, WEBHOOK_EVENTS
from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.features.webhooks import signing, targets
from headrace_workers.features.webhooks.sender import Letter, Reply, Sender
from headrace_workers.features.webhooks.signing import Sealer, hint, new_secret
from headrace_workers.features.webhooks.store.deliveries import body
from headrace_workers.features.webhooks.store.endpoints import Endpoint, callbacks_id, new_id
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.targets import Reach

MOST_OF_A_TENANT: Final = 100  # endpoints
OVERLAP: Final = 86_400.0  # seconds that an old secret signs, too
_LONGEST_NAME: Final = 256
_SILENT: Final = "it has not answered an earlier sample yet, and nothing is sent beside that: try again in a moment"


class EndpointRefused(HeadraceError):
    """An endpoint cannot be as it was asked for. `param` names the field that is at fault, if it is one."""

    category = Category.INVALID

    def __init__(self, message: str, param: str | None = None) -> None:
        super().__init__(message)
        self.param = param


@dataclass(frozen=True, slots=True)
class Wanted:
    """An endpoint as it is asked for. `secret`: one that the receiver has already."""

    tenant: str
    url: str
    events: tuple[str, ...]
    name: str = ""
    whole: bool = False
    scheme: signing.Scheme = "v1"
    secret: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class WithSecret:
    """An endpoint, and what its receiver verifies by: shown once."""

    endpoint: Endpoint
    secret: str = field(repr=False)


def register(webhooks: Webhooks, sealer: Sealer, reach: Reach, wanted: Wanted) -> WithSecret:
    """Register a receiver. EndpointRefused, UrlRefused, ConfigurationError about the secret; Unavailable."""
    target = targets.read_url(wanted.url, reach)
    check(wanted.name, wanted.events)
    secret = signing.new_secret(wanted.scheme) if wanted.secret is None else wanted.secret
    signing.check_secret(secret)
    endpoint_id = new_id()
    made = webhooks.add(
        endpoint_id=endpoint_id,
        tenant=wanted.tenant,
        name=wanted.name or target.host,
        url=wanted.url,
        events=wanted.events,
        whole=wanted.whole,
        secret=sealer.seal(secret, endpoint_id),
        hint=signing.hint(secret),
        most=MOST_OF_A_TENANT,
    )
    if made is None:
        raise EndpointRefused(f"the tenant has {MOST_OF_A_TENANT} endpoints, which is the most: remove one")
    return WithSecret(made, signing.shown(secret))


def change(
    webhooks: Webhooks,
    reach: Reach,
    endpoint: Endpoint,
    *,
    name: str | None = None,
    url: str | None = None,
    events: tuple[str, ...] | None = None,
    whole: bool | None = None,
) -> Endpoint | None:
    """Change what is given of an endpoint; None where it is gone. Raises as `register` does."""
    if url is not None:
        targets.read_url(url, reach)
    check(name or "", events or ())
    asked = {"name": name, "url": url, "events": events, "whole": whole}
    wanted = {field: said for field, said in asked.items() if said is not None and said != getattr(endpoint, field)}
    return webhooks.change(endpoint.id, wanted) if wanted else endpoint


def check(name: str, events: Sequence[str]) -> None:
    """EndpointRefused when there is no such event, or the name is too long."""
    if len(name) > _LONGEST_NAME or "\x00" in name:
        raise EndpointRefused(f"the name has more than {_LONGEST_NAME} characters, or holds NUL", "name")
    if unknown := [event for event in events if event not in WEBHOOK_EVENTS]:
        raise EndpointRefused(
            f"no event is called {unknown[0]!r}; there are {', '.join(WEBHOOK_EVENTS)}", "event_types"
        )


def rotate(webhooks: Webhooks, sealer: Sealer, endpoint: Endpoint, overlap: float) -> WithSecret | None:
    """Give an endpoint another secret of its kind; for `overlap` seconds the old one signs, too. None: it is gone."""
    if endpoint.secret is None:
        raise EndpointRefused("where callbacks go has no secret of its own: rotate that of the tenant's callbacks")
    scheme = signing.check_secret(sealer.open(endpoint.secret, endpoint.secret_of))
    secret = signing.new_secret(scheme)
    kept = sealer.seal(secret, endpoint.id)
    made = webhooks.rotate(endpoint.id, kept, signing.hint(secret), int(overlap * 1000))
    return None if made is None else WithSecret(made, signing.shown(secret))


def take_back(webhooks: Webhooks, before: Endpoint) -> None:
    """Sign as this endpoint did before its secret was changed: nobody was shown the new one."""
    webhooks.change(before.id, {name: getattr(before, name) for name in ("secret", "hint", "old_secret", "old_until")})


def try_out(
    webhooks: Webhooks,
    sealer: Sealer,
    sender: Sender,
    endpoint: Endpoint,
    event_type: str = TEST,
    subject: str = "test",
) -> Reply:
    """Send a sample of an event now, from here. Nothing is noted of it."""
    now = time.time()
    message = str(uuid.uuid4())
    content = body(message=message, event_type=event_type, at_ms=int(now * 1000), data={"id": subject})
    keys = signing_keys(endpoint, webhooks, sealer, int(now * 1000))
    (reply,) = sender.send(endpoint.id, [Letter(message, endpoint.url, content, keys)], probing=True, patience=1)
    return reply or Reply(ms=0, error=_SILENT)


def signing_keys(endpoint: Endpoint, webhooks: Webhooks, sealer: Sealer, now: int) -> tuple[str, ...]:
    """The endpoint's secret, and while it rotates the one before. `now` is in ms. ConfigurationError where what is kept
    cannot be opened; Unavailable with the ledger.
    """
    if endpoint.secret is None:
        endpoint = callbacks_of(endpoint.tenant, webhooks, sealer)
    kept = [endpoint.secret]
    if endpoint.old_until is not None and endpoint.old_until > now:
        kept.append(endpoint.old_secret)
    return tuple(sealer.open(text, endpoint.secret_of) for text in kept if text is not None)


def callbacks_of(tenant: str, webhooks: Webhooks, sealer: Sealer) -> Endpoint:
    """Return the tenant's own endpoint for callbacks. Make its secret if it has none. Raise Unavailable."""
    secret = new_secret("v1")
    return webhooks.callbacks(tenant, sealer.seal(secret, callbacks_id(tenant)), hint(secret))
