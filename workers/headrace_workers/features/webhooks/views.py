"""Receivers of webhooks and their deliveries as everybody sees them: over HTTP, by `--json` and in tables.

Times are seconds since 1970. Secrets are in none, but for the one that is shown when it is made.
"""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel

if TYPE_CHECKING:  # they load the database, or what sends
    from headrace_workers.features.webhooks.registering import WithSecret
    from headrace_workers.features.webhooks.sender import Reply
    from headrace_workers.features.webhooks.store.delivery_views import DeliveryView
    from headrace_workers.features.webhooks.store.endpoints import Endpoint
    from headrace_workers.features.webhooks.store.redelivery import Preview

State = Literal["pending", "delivered", "failed", "dropped"]  # of a delivery


class WebhookEndpoint(BaseModel):
    """A receiver. `failing_since` and `paused_until` are null while it takes what it is told."""

    id: str
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int
    updated_at: int
    tenant: str
    origin: str
    name: str
    url: str
    event_types: list[str]
    signing_secret_hint: str | None
    whole: bool
    disabled: str | None
    failures: int
    failing_since: int | None
    paused_until: int | None

    @classmethod
    def of(cls, endpoint: "Endpoint") -> Self:
        """Return the view of an endpoint."""
        return cls(**_fields(endpoint))


class WebhookEndpointWithSecret(WebhookEndpoint):
    """A receiver, with the secret that is shown this once."""

    signing_secret: str

    @classmethod
    def made(cls, made: "WithSecret") -> Self:
        """Return the view of an endpoint that has just got a secret."""
        return cls(**_fields(made.endpoint), signing_secret=made.secret)


class WebhookDelivery(BaseModel):
    """What a receiver was told, and what came of it. `next_at` is the time of the next attempt, where there is one."""

    id: str
    object: Literal["webhook_endpoint.delivery"] = "webhook_endpoint.delivery"
    webhook_endpoint_id: str
    tenant: str
    event_type: str
    subject: str
    state: State
    attempts: int
    created_at: int
    attempted_at: int | None
    next_at: int | None
    replayed_at: int | None
    status_code: int | None
    answered_ms: int | None
    error: str | None
    answer: str | None

    @classmethod
    def of(cls, found: "DeliveryView") -> Self:
        """Return the view of a delivery."""
        return cls(
            id=found.id,
            webhook_endpoint_id=found.endpoint_id,
            tenant=found.tenant,
            event_type=found.type,
            subject=found.subject,
            state=found.state,
            attempts=found.attempts,
            created_at=found.created_at // 1000,
            attempted_at=_seconds(found.attempted_at),
            next_at=_seconds(found.next_at),
            replayed_at=_seconds(found.replayed_at),
            status_code=found.status,
            answered_ms=found.ms,
            error=found.error,
            answer=found.answer,
        )


class WebhookReplay(BaseModel):
    """How many there were to send again, and how many were; `just_now` were sent again less than ten minutes ago."""

    object: Literal["webhook_endpoint.replay"] = "webhook_endpoint.replay"
    failed: int
    delivered: int
    just_now: int
    sent: int

    @classmethod
    def of(cls, found: "Preview", sent: int) -> Self:
        """Return what was found, and how much of it was sent."""
        return cls(failed=found.failed, delivered=found.delivered, just_now=found.just_now, sent=sent)


class WebhookSample(BaseModel):
    """What a receiver said to a sample. `success`: it was reached; `error` says why it did not take the sample."""

    object: Literal["webhook_endpoint.test"] = "webhook_endpoint.test"
    webhook_endpoint_id: str
    event_type: str
    status_code: int | None
    success: bool
    answered_ms: int
    error: str | None
    answer: str

    @classmethod
    def of(cls, endpoint_id: str, event_type: str, reply: "Reply") -> Self:
        """Return the view of a reply."""
        return cls(
            webhook_endpoint_id=endpoint_id,
            event_type=event_type,
            status_code=reply.status,
            success=reply.status is not None,
            answered_ms=reply.ms,
            error=reply.error,
            answer=reply.text,
        )


def _fields(endpoint: "Endpoint") -> dict[str, object]:
    return {
        "id": endpoint.id,
        "created_at": endpoint.created_at // 1000,
        "updated_at": endpoint.updated_at // 1000,
        "tenant": endpoint.tenant,
        "origin": endpoint.origin,
        "name": endpoint.name,
        "url": endpoint.url,
        "event_types": list(endpoint.events),
        "signing_secret_hint": endpoint.hint,
        "whole": endpoint.whole,
        "disabled": endpoint.disabled,
        "failures": endpoint.failures,
        "failing_since": _seconds(endpoint.failing_since),
        "paused_until": _seconds(endpoint.paused_until),
    }


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else ms // 1000
