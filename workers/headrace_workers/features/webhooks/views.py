"""Receivers of webhooks and their deliveries as everybody sees them: over HTTP, by `--json` and in tables.

Times are seconds since 1970. Secrets are in none, but for the one that is shown when it is made.
"""

from typing import TYPE_CHECKING, Literal, Self

from pydantic import BaseModel, Field

from headrace_workers.core.fields import copied

if TYPE_CHECKING:  # they load the database, or what sends
    from headrace_workers.features.webhooks.registering import WithSecret
    from headrace_workers.features.webhooks.sender import Reply
    from headrace_workers.features.webhooks.store.deliveries import DeliveryView, Preview
    from headrace_workers.features.webhooks.store.endpoints import Endpoint

State = Literal["pending", "delivered", "failed", "dropped"]  # of a delivery


class WebhookEndpoint(BaseModel):
    """An endpoint. Times are seconds since 1970; the last two are null while it accepts its deliveries."""

    id: str = Field(description="The id of the endpoint.")
    object: Literal["webhook_endpoint"] = "webhook_endpoint"
    created_at: int = Field(description="When it was registered.")
    updated_at: int = Field(description="When it was last changed.")
    tenant: str = Field(description="Its tenant.")
    origin: str = Field(description="`registered`, or where jobs send their callbacks.")
    name: str = Field(description="Its name.")
    url: str = Field(description="The address that is called.")
    event_types: list[str] = Field(description="The event types that are sent.")
    signing_secret_hint: str | None = Field(description="The first characters of the secret.")
    whole: bool = Field(description="Whether deliveries contain the whole result.")
    disabled: str | None = Field(description="Why it is disabled, if it is.")
    failures: int = Field(description="Attempts that failed since the last success.")
    failing_since: int | None = Field(description="When the first of them failed.")
    paused_until: int | None = Field(description="Until when nothing is sent.")

    @classmethod
    def of(cls, endpoint: "Endpoint", **more: str) -> Self:
        """Return the view of an endpoint, with `more` fields of a subclass."""
        return copied(
            cls,
            endpoint,
            created_at=endpoint.created_at // 1000,
            updated_at=endpoint.updated_at // 1000,
            event_types=list(endpoint.events),
            signing_secret_hint=endpoint.hint,
            failing_since=_seconds(endpoint.failing_since),
            paused_until=_seconds(endpoint.paused_until),
            **more,
        )


class WebhookEndpointWithSecret(WebhookEndpoint):
    """An endpoint with its secret, which is shown only this once."""

    signing_secret: str = Field(description="The secret that signs deliveries.")

    @classmethod
    def made(cls, made: "WithSecret") -> Self:
        """Return the view of an endpoint that has just got a secret."""
        return cls.of(made.endpoint, signing_secret=made.secret)


class WebhookDelivery(BaseModel):
    """A delivery and its outcome. Times are seconds since 1970."""

    id: str
    object: Literal["webhook_endpoint.delivery"] = "webhook_endpoint.delivery"
    webhook_endpoint_id: str = Field(description="The endpoint.")
    tenant: str = Field(description="Its tenant.")
    event_type: str = Field(description="The type of the event.")
    subject: str = Field(description="The job, or the batch, that the event is about.")
    state: State = Field(description="The state of the delivery.")
    attempts: int = Field(description="Attempts so far.")
    created_at: int = Field(description="When the event happened.")
    attempted_at: int | None = Field(description="The time of the last attempt.")
    next_at: int | None = Field(description="The time of the next attempt, if there is one.")
    replayed_at: int | None = Field(description="When it was sent again on request.")
    status_code: int | None = Field(description="The status that the receiver answered.")
    answered_ms: int | None = Field(description="How long the receiver took.")
    error: str | None = Field(description="Why the attempt failed.")
    answer: str | None = Field(description="The beginning of the receiver's answer.")

    @classmethod
    def of(cls, found: "DeliveryView") -> Self:
        """Return the view of a delivery."""
        return copied(
            cls,
            found,
            webhook_endpoint_id=found.endpoint_id,
            event_type=found.type,
            created_at=found.created_at // 1000,
            attempted_at=_seconds(found.attempted_at),
            next_at=_seconds(found.next_at),
            replayed_at=_seconds(found.replayed_at),
            status_code=found.status,
            answered_ms=found.ms,
        )


class WebhookReplay(BaseModel):
    """The number of deliveries to send again, and how many were; `just_now` were sent again less than ten minutes
    ago.
    """

    object: Literal["webhook_endpoint.replay"] = "webhook_endpoint.replay"
    failed: int
    delivered: int
    just_now: int
    sent: int

    @classmethod
    def of(cls, found: "Preview", sent: int) -> Self:
        """Return what was found, and how much of it was sent."""
        return copied(cls, found, sent=sent)


class WebhookSample(BaseModel):
    """An endpoint's response to a sample. `success`: it was reached; `error` says why it did not accept the sample."""

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


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else ms // 1000
