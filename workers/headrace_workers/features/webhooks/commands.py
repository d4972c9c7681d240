"""`headrace webhooks`: endpoints and their deliveries."""

from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Final

import typer

from headrace_schemas.callback import BATCH_EVENTS, JOB_ENDS
from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.connections import need_ledger, ring_bridges
from headrace_workers.cli.durations import milliseconds, parse_life, parse_time, show_ms, show_seconds
from headrace_workers.cli.options import JsonLinesOption, OneJsonOption, checked_tenant, limit_option
from headrace_workers.cli.output import Column, NoSuchThing, be_sure, put, put_facts, put_json, put_list, put_view, say
from headrace_workers.cli.streams import shown_or
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.webhooks import registering, signing
from headrace_workers.features.webhooks.registering import WithSecret, callbacks_of
from headrace_workers.features.webhooks.sender import Sender
from headrace_workers.features.webhooks.settings import SealingSettings, WebhookSettings
from headrace_workers.features.webhooks.signing import Sealer
from headrace_workers.features.webhooks.store.deliveries import Range
from headrace_workers.features.webhooks.store.endpoints import Endpoint
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.views import (
    State,
    WebhookDelivery,
    WebhookEndpoint,
    WebhookEndpointWithSecret,
    WebhookReplay,
    WebhookSample,
)

_ORIGINS = ("registered", "callbacks", "place")
_LONGEST_SECRET = 4_096  # bytes that are read of a file
_USUAL = (*JOB_ENDS, *BATCH_EVENTS)
_EndpointArgument = Annotated[str, typer.Argument(metavar="ENDPOINT", help="as `headrace webhooks list` shows it")]
_TenantOption = Annotated[str, typer.Option("--tenant", help="the tenant", envvar="HEADRACE_TENANT")]


def add(
    url: Annotated[str, typer.Argument(metavar="URL", help="an https URL with a public address")],
    event: Annotated[
        list[str] | None,
        typer.Option("--event", help="an event type; may be repeated; by default all of jobs and batches"),
    ] = None,
    named_only: Annotated[
        bool, typer.Option("--named-only", help="only deliver for jobs whose callback names it")
    ] = False,
    tenant: _TenantOption = "default",
    name: Annotated[str, typer.Option("--name", help="for people")] = "",
    whole: Annotated[bool, typer.Option("--whole", help="send the whole receipt if it is small enough")] = False,
    ed25519: Annotated[
        bool, typer.Option("--ed25519", help="sign with a private key; the endpoint gets the public key")
    ] = False,
    secret_file: Annotated[
        Path | None, typer.Option("--secret-file", help="file with a secret that the endpoint already has (whsec_…)")
    ] = None,
    as_json: OneJsonOption = False,
) -> None:
    """Register an endpoint, and print the secret with which it verifies deliveries. The secret is shown only this once.

    Example: `headrace webhooks add https://shop.example/hooks --event job.completed --event job.failed`
    """
    wanted = registering.Wanted(
        tenant=checked_tenant(tenant),
        url=url,
        events=() if named_only else tuple(dict.fromkeys(event or _USUAL)),
        name=name,
        whole=whole,
        scheme="v1a" if ed25519 else "v1",
        secret=None if secret_file is None else _read_secret(secret_file),
    )
    sealer = _sealer()
    webhooks = need_ledger().of(Webhooks)
    made = registering.register(webhooks, sealer, WebhookSettings.from_env().reach, wanted)
    events = ", ".join(made.endpoint.events) or "the events of jobs that name it"
    told = f"{made.endpoint.id} receives {events}. Its secret:"
    with shown_or(lambda: webhooks.remove(made.endpoint.id)):
        _tell_secret(made, told, as_json)
    if not (as_json or sealer.seals):
        say("The ledger keeps secrets unencrypted; HEADRACE_WEBHOOK_KEY encrypts them (docs/reference/webhooks.md).")


def list_endpoints(
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    places: Annotated[bool, typer.Option("--callbacks", help="also URLs that jobs name as callbacks")] = False,
    limit: Annotated[int, limit_option("the number of entries, newest first")] = 100,
    as_json: JsonLinesOption = False,
) -> None:
    """List endpoints with their event types and states.

    Example: `headrace webhooks list --tenant acme`
    """
    endpoints = need_ledger().of(Webhooks).endpoints(tenant, limit + 1, origins=_ORIGINS if places else _ORIGINS[:2])
    nothing = "no webhook endpoints: `headrace webhooks add URL` registers one"
    views = list(map(WebhookEndpoint.of, endpoints))
    put_list(views, _ENDPOINT, nothing, as_json=as_json, limit=limit, whole=("endpoint",))


def secret(tenant: _TenantOption = "default") -> None:
    """Print the secret that signs deliveries to URLs that jobs name. If there is none, it is made.

    Example: `headrace webhooks secret --tenant acme`
    """
    sealer = _sealer()
    endpoint = callbacks_of(checked_tenant(tenant), need_ledger().of(Webhooks), sealer)
    say(f"Callbacks of {tenant} are signed by {endpoint.id}. Its secret:")
    put(signing.shown(sealer.open(endpoint.secret or "", endpoint.id)))


def try_out(
    endpoint: _EndpointArgument,
    event: Annotated[str, typer.Option("--event", help="the sample's event type")] = "webhook.test",
    as_json: OneJsonOption = False,
) -> None:
    """Send a sample from this machine now, and print the endpoint's response. Exit code 1: it did not accept it.

    Example: `headrace webhooks test we_2f1c9a…`
    """
    ledger = need_ledger()
    found = _found(ledger, endpoint)
    if not found.url:
        raise ConfigurationError(f"{endpoint} signs callbacks and has no URL: a sample cannot be sent")
    reply = registering.try_out(ledger.of(Webhooks), _sealer(), Sender(WebhookSettings.from_env().reach), found, event)
    if as_json:
        put_view(WebhookSample.of(endpoint, event, reply))
    else:
        say(
            f"the receiver answered {reply.status} after {reply.ms} ms"
            if reply.error is None
            else f"not accepted: {reply.error}"
        )
    raise typer.Exit(0 if reply.error is None else 1)


def rotate(
    endpoint: _EndpointArgument,
    overlap: Annotated[str, typer.Option("--overlap", help="for how long the old secret also signs: 0, 2h, 1d")] = "1d",
    as_json: OneJsonOption = False,
) -> None:
    """Replace an endpoint's secret, and print the new one. During the overlap, deliveries have two signatures.

    Example: `headrace webhooks rotate we_2f1c9a… --overlap 2h`
    """
    ledger = need_ledger()
    seconds = parse_life(overlap, "--overlap", none=True).total_seconds()
    old = _found(ledger, endpoint)
    made = registering.rotate(ledger.of(Webhooks), _sealer(), old, seconds)
    if made is None:
        raise _unknown(endpoint)
    old_one = f"stays valid for {overlap}" if seconds else "is no longer valid"
    with shown_or(lambda: registering.take_back(ledger.of(Webhooks), old)):
        _tell_secret(made, f"{endpoint} has a new secret; the old one {old_one}:", as_json)


def change(
    endpoint: _EndpointArgument,
    enabled: Annotated[bool | None, typer.Option("--enabled/--disabled", help="whether it gets deliveries")] = None,
    reason: Annotated[str, typer.Option("--reason", help="why it is disabled, for people")] = "a person said so",
) -> None:
    """Enable or disable an endpoint. To enable it clears its failures, and its pending deliveries are sent at once.

    When it is disabled, its pending deliveries are dropped. `headrace webhooks replay` sends them, and those that
    failed, once it is enabled.

    Examples: `headrace webhooks update we_2f1c9a… --disabled --reason "moves house"`,
    `headrace webhooks update we_2f1c9a… --enabled`
    """
    if enabled is None:
        raise ConfigurationError("nothing is to change: give --enabled or --disabled")
    ledger = need_ledger()
    found = _found(ledger, endpoint)
    if enabled:
        ledger.of(Webhooks).enable(found.id)
        ring_bridges()
    else:
        ledger.of(Webhooks).disable(found.id, reason[:2_000])
    say(f"{endpoint} is {'enabled' if enabled else 'disabled'}")


def remove(endpoint: _EndpointArgument, yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False) -> None:
    """Delete an endpoint and its secret. Its pending deliveries are not sent.

    Example: `headrace webhooks remove we_2f1c9a… --yes`
    """
    ledger = need_ledger()
    found = _found(ledger, endpoint)
    if not yes:
        be_sure(f"Forget {endpoint} ({found.name})?", "it stays")
    ledger.of(Webhooks).remove(endpoint)
    say(f"{endpoint} is removed")


def deliveries(
    which: Annotated[
        str | None,
        typer.Argument(metavar="[ENDPOINT|DELIVERY]", help="only of this endpoint; or a delivery, shown with its body"),
    ] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    state: Annotated[str | None, typer.Option("--state", help="pending, delivered, failed or dropped")] = None,
    since: Annotated[str | None, typer.Option("--since", help="10m, 2h, 3d, or an ISO 8601 time")] = None,
    limit: Annotated[int, limit_option("the number of entries, newest first")] = 100,
    as_json: JsonLinesOption = False,
) -> None:
    """List deliveries, newest first: attempts, responses, and the time of the next attempt.

    Example: `headrace webhooks deliveries we_2f1c9a… --state failed --since 1d`
    """
    ledger = need_ledger()
    if which is not None and (one := ledger.of(Webhooks).delivery(which)) is not None:
        _show(WebhookDelivery.of(one[0]), one[1], as_json)
        return
    delivery_views = ledger.of(Webhooks).deliveries(
        _range(ledger, which, tenant, since, None), limit + 1, _state(state)
    )
    views = list(map(WebhookDelivery.of, delivery_views))
    put_list(views, _DELIVERY, "no deliveries", as_json=as_json, limit=limit, whole=("delivery",))


def replay(
    endpoint: Annotated[str | None, typer.Argument(metavar="[ENDPOINT]", help="only of this endpoint")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    since: Annotated[str | None, typer.Option("--since", help="made after: 2h, 3d, or an ISO 8601 time")] = None,
    until: Annotated[str | None, typer.Option("--until", help="made before")] = None,
    delivered: Annotated[bool, typer.Option("--delivered", help="also accepted deliveries")] = False,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="only show what would be sent")] = False,
    yes: Annotated[bool, typer.Option("--yes", help="do not ask")] = False,
    as_json: OneJsonOption = False,
) -> None:
    """Send failed deliveries again under their ids. The number is shown first, and you are asked.

    A delivery that was sent again less than ten minutes ago is left out, so that a second call sends nothing twice.

    Examples: `headrace webhooks replay we_2f1c9a… --since 2d`, `headrace webhooks replay --tenant acme --yes`
    """
    ledger = need_ledger()
    if endpoint is None and tenant is None:
        raise ConfigurationError("give an ENDPOINT, or --tenant")
    which = _range(ledger, endpoint, tenant, since, until)
    shown = ledger.of(Webhooks).preview(which, delivered=delivered)
    count = shown.failed + shown.delivered
    say(
        f"deliveries to send again: {count} ({shown.failed} failed, {shown.delivered} delivered); "
        f"skipped because they were sent again less than ten minutes ago: {shown.just_now}"
    )
    sent = 0
    if count and not dry_run:
        if not yes:
            be_sure(f"Send {count} again?", "nothing was sent", before="")
        while done := ledger.of(Webhooks).replay(which, delivered=delivered):
            sent += done
        ring_bridges()
    if as_json:
        put_view(WebhookReplay.of(shown, sent))
    if not dry_run:
        say(f"{sent} are sent again")


def _show(found: WebhookDelivery, content: bytes, as_json: bool) -> None:
    if as_json:
        put_json({**found.model_dump(mode="json"), "body": content.decode()})
        return
    facts = {**_DELIVERY, "endpoint": "webhook_endpoint_id", "answer": "answer"}
    put_facts(found, facts)
    put(content.decode())


def _tell_secret(made: WithSecret, words: str, as_json: bool) -> None:
    if as_json:
        put_view(WebhookEndpointWithSecret.made(made))
        return
    say(words)
    put(made.secret)


def _range(ledger: Ledger, endpoint: str | None, tenant: str | None, since: str | None, until: str | None) -> Range:
    if endpoint is not None:
        _found(ledger, endpoint)
    now = datetime.fromtimestamp(ledger.now() / 1000, UTC)
    return Range(
        endpoint_id=endpoint,
        tenant=tenant,
        since=milliseconds(parse_time(since, now)) if since else None,
        until=milliseconds(parse_time(until, now)) if until else None,
    )


def _state(word: str | None) -> State | None:
    if word is None or word in ("pending", "delivered", "failed", "dropped"):
        return word  # type: ignore[return-value]
    raise ConfigurationError(f"--state is {word!r}; it may be pending, delivered, failed or dropped")


def _found(ledger: Ledger, endpoint: str) -> Endpoint:
    found = ledger.of(Webhooks).endpoint(endpoint)
    if found is None:
        raise _unknown(endpoint)
    return found


def _unknown(endpoint: str) -> NoSuchThing:
    return NoSuchThing(f"there is no endpoint {endpoint}: `headrace webhooks list` shows them")


def _sealer() -> Sealer:
    return Sealer(SealingSettings.from_env().webhook_key)


def _read_secret(file: Path) -> str:
    try:
        with file.open("rb") as stream:
            return stream.read(_LONGEST_SECRET).decode("ascii", "replace").strip()
    except OSError as error:
        raise ConfigurationError(f"--secret-file: cannot read {file}: {error.strerror}") from error


def _health(endpoint: WebhookEndpoint) -> str:
    if endpoint.disabled is not None:
        return f"disabled: {endpoint.disabled}"
    if endpoint.failures:
        paused = f", paused until {show_seconds(endpoint.paused_until)}" if endpoint.paused_until else ""
        return f"{endpoint.failures} failures since {show_seconds(endpoint.failing_since)}{paused}"
    return "ok"


def _answered(delivery: WebhookDelivery) -> str:
    if delivery.attempted_at is None:
        return "–"
    return f"{delivery.status_code or 'no answer'} after {show_ms(delivery.answered_ms)}"


_ENDPOINT: Final[Mapping[str, Column]] = {
    "endpoint": "id", "tenant": "tenant", "name": "name", "url": lambda endpoint: endpoint.url or "–",
    "events": lambda endpoint: endpoint.event_types or "–",
    "secret": lambda endpoint: endpoint.signing_secret_hint or "–", "health": _health,
}  # fmt: skip
_DELIVERY: Final[Mapping[str, Column]] = {
    "delivery": "id", "event": "event_type", "subject": "subject",
    "created": lambda delivery: show_seconds(delivery.created_at), "state": "state", "attempts": "attempts",
    "answered": _answered, "next": lambda delivery: show_seconds(delivery.next_at), "reason": "error",
}  # fmt: skip
