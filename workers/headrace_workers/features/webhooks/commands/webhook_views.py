"""Endpoints and deliveries as tables and as JSON. Secrets are in neither. Pure."""

from typing import TYPE_CHECKING, Any

from headrace_workers.cli.durations import rfc3339, show_ms, show_time

if TYPE_CHECKING:
    from headrace_workers.features.webhooks.store.delivery_views import DeliveryView
    from headrace_workers.features.webhooks.store.endpoints import Endpoint

ENDPOINT_COLUMNS = ("endpoint", "tenant", "name", "url", "events", "secret", "stands")
DELIVERY_COLUMNS = ("delivery", "event", "subject", "made", "state", "attempts", "answered", "next", "reason")


def endpoint_dict(endpoint: "Endpoint") -> dict[str, Any]:
    """For `--json`."""
    return {
        "id": endpoint.id,
        "tenant": endpoint.tenant,
        "origin": endpoint.origin,
        "name": endpoint.name,
        "url": endpoint.url,
        "events": list(endpoint.events),
        "whole": endpoint.whole,
        "secret_hint": endpoint.hint,
        "disabled": endpoint.disabled,
        "failures": endpoint.failures,
        "failing_since": rfc3339(endpoint.failing_since),
        "paused_until": rfc3339(endpoint.paused_until),
        "created_at": rfc3339(endpoint.created_at),
        "updated_at": rfc3339(endpoint.updated_at),
    }


def endpoint_row(endpoint: "Endpoint") -> tuple[str, ...]:
    """For the table."""
    return (
        endpoint.id,
        endpoint.tenant,
        endpoint.name,
        endpoint.url or "–",
        ", ".join(endpoint.events) or "–",
        endpoint.hint or "–",
        _stands(endpoint),
    )


def _stands(endpoint: "Endpoint") -> str:
    if endpoint.disabled is not None:
        return f"disabled: {endpoint.disabled}"
    if endpoint.failures:
        return f"{endpoint.failures} failures since {show_time(endpoint.failing_since)}"
    return "well"


def delivery_dict(delivery: "DeliveryView") -> dict[str, Any]:
    """For `--json`."""
    return {
        "id": delivery.id,
        "endpoint": delivery.endpoint_id,
        "tenant": delivery.tenant,
        "event": delivery.type,
        "subject": delivery.subject,
        "state": delivery.state,
        "attempts": delivery.attempts,
        "created_at": rfc3339(delivery.created_at),
        "attempted_at": rfc3339(delivery.attempted_at),
        "next_at": rfc3339(delivery.next_at),
        "replayed_at": rfc3339(delivery.replayed_at),
        "status": delivery.status,
        "answered_ms": delivery.ms,
        "answer": delivery.answer,
        "reason": delivery.error,
    }


def delivery_row(delivery: "DeliveryView") -> tuple[str, ...]:
    """For the table."""
    answered = "–" if delivery.attempted_at is None else f"{delivery.status or 'nothing'} after {show_ms(delivery.ms)}"
    return (
        delivery.id,
        delivery.type,
        delivery.subject,
        show_time(delivery.created_at),
        delivery.state,
        str(delivery.attempts),
        answered,
        show_time(delivery.next_at),
        delivery.error or "",
    )


def delivery_facts(delivery: "DeliveryView") -> list[tuple[str, str]]:
    """One delivery, a line each."""
    named = zip(DELIVERY_COLUMNS[1:], delivery_row(delivery)[1:], strict=True)
    return [*named, ("endpoint", delivery.endpoint_id), ("answer", delivery.answer or "")]
