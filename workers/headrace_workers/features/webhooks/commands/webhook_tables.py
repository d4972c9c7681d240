"""Receivers of webhooks and deliveries as rows of tables: columns of their views. Pure."""

from typing import TYPE_CHECKING, Final

from headrace_workers.cli.durations import show_ms, show_seconds

if TYPE_CHECKING:
    from headrace_workers.features.webhooks.views import WebhookDelivery, WebhookEndpoint

ENDPOINT_COLUMNS: Final = ("endpoint", "tenant", "name", "url", "events", "secret", "health")
DELIVERY_COLUMNS: Final = ("delivery", "event", "subject", "created", "state", "attempts", "answered", "next", "reason")


def endpoint_row(endpoint: "WebhookEndpoint") -> tuple[str, ...]:
    """Return the cells of `ENDPOINT_COLUMNS`."""
    return (
        endpoint.id,
        endpoint.tenant,
        endpoint.name,
        endpoint.url or "–",
        ", ".join(endpoint.event_types) or "–",
        endpoint.signing_secret_hint or "–",
        _health(endpoint),
    )


def _health(endpoint: "WebhookEndpoint") -> str:
    if endpoint.disabled is not None:
        return f"disabled: {endpoint.disabled}"
    if endpoint.failures:
        paused = f", paused until {show_seconds(endpoint.paused_until)}" if endpoint.paused_until else ""
        return f"{endpoint.failures} failures since {show_seconds(endpoint.failing_since)}{paused}"
    return "ok"


def delivery_row(delivery: "WebhookDelivery") -> tuple[str, ...]:
    """Return the cells of `DELIVERY_COLUMNS`."""
    answered = f"{delivery.status_code or 'no answer'} after {show_ms(delivery.answered_ms)}"
    return (
        delivery.id,
        delivery.event_type,
        delivery.subject,
        show_seconds(delivery.created_at),
        delivery.state,
        str(delivery.attempts),
        "–" if delivery.attempted_at is None else answered,
        show_seconds(delivery.next_at),
        delivery.error or "",
    )


def delivery_facts(delivery: "WebhookDelivery") -> list[tuple[str, str]]:
    """Return one delivery, a fact a row."""
    named = zip(DELIVERY_COLUMNS[1:], delivery_row(delivery)[1:], strict=True)
    return [*named, ("endpoint", delivery.webhook_endpoint_id), ("answer", delivery.answer or "")]
