"""`headrace dead`: look at what failed, and give it another chance."""

import base64
import json
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Annotated, Any, Final

import typer

from headrace_schemas.errors import Category, ConfigurationError
from headrace_workers.cli.connections import need_ledger, ring_bridges
from headrace_workers.cli.durations import milliseconds, parse_time, rfc3339, show_time
from headrace_workers.cli.options import JsonLinesOption, limit_option
from headrace_workers.cli.output import Column, console, printable, put, put_json, put_list, say, table
from headrace_workers.cli.receipts import shorten
from headrace_workers.cli.refused_events import list_events, retry
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.replay import DeadFilter

WHOLE = ("letter", "job")
_REASON_WIDTH = 120
# The fields that a refused record gave about itself, under the event's names.
_ORIGIN = ("partition", "offset", "key", "ce_id", "ce_subject", "correlationid", "traceparent")


COLUMNS: Final[Mapping[str, Column]] = {
    "letter": "id",
    "job": lambda letter: letter.job_id or letter.refers_to,  # the job id that a refused record would have had
    "category": lambda letter: letter.failure or letter.code or letter.category,
    "stage": "stage",
    "attempts": "attempts",
    "died": lambda letter: show_time(letter.died_at) + (" (replayed)" if letter.replayed_at else ""),
    "reason": lambda letter: shorten(letter.reason, _REASON_WIDTH),
}


def letter_dict(letter: Any) -> dict[str, Any]:
    """Return a dead letter for `--json` without the original. Names and times (RFC 3339) come from the event.

    `truncated` is true if the ledger's copy of the original is cut, so that it cannot be replayed.
    """
    return {
        "id": letter.id,
        "job_id": letter.job_id,
        "refers_to": letter.refers_to,
        "tenant": letter.tenant,
        "category": letter.category,
        "code": letter.code,
        "reason": letter.reason,
        "failure": letter.failure,
        "place": letter.place,
        "stage": letter.stage,
        "attempts": letter.attempts,
        "topic": letter.topic,
        **{name: getattr(letter, name) for name in _ORIGIN},
        "died_at": rfc3339(letter.died_at),
        "replayed_at": rfc3339(letter.replayed_at),
        "size": letter.size,
        "truncated": bool(letter.truncated),
    }


def original(letter: Any) -> dict[str, Any]:
    """Return the original record: its headers, and its value as text, or as base64 if it is not text."""
    value = bytes(letter.value)
    try:
        text, encoding = value.decode(), "utf-8"
    except UnicodeDecodeError:
        text, encoding = base64.b64encode(value).decode(), "base64"
    return {"headers": json.loads(letter.headers), "original": text, "encoding": encoding}


_NAMES = "its own id, its job's, or a refused record's key, ce_id, ce_subject or correlation id"
_StageOption = Annotated[str | None, typer.Option("--stage", help="only of this stage: ingest, generate, deliver, …")]
_TenantOption = Annotated[str | None, typer.Option("--tenant", help="only of this tenant")]
_CategoryOption = Annotated[Category | None, typer.Option("--category", help="only of this category")]
_SinceOption = Annotated[str | None, typer.Option("--since", help="died since: 10m, 2h, 3d, or an ISO 8601 time")]
_UntilOption = Annotated[str | None, typer.Option("--until", help="died before: 10m, 2h, 3d, or an ISO 8601 time")]

_EventsOption = Annotated[bool, typer.Option("--events", help="events that Kafka refused, instead of dead letters")]
_FILTERS = "--stage, --tenant, --category, --since and --until"

_BATCH = 1_000


def list_letters(
    letter_id: Annotated[
        str | None, typer.Argument(metavar="[ID]", help=f"show this with its original event: {_NAMES}")
    ] = None,
    stage: _StageOption = None,
    tenant: _TenantOption = None,
    category: _CategoryOption = None,
    since: _SinceOption = None,
    until: _UntilOption = None,
    replayed: Annotated[bool, typer.Option("--replayed", help="also replayed ones")] = False,
    events: _EventsOption = False,
    limit: Annotated[int, limit_option("at most so many, newest first")] = 100,
    as_json: JsonLinesOption = False,
) -> None:
    """List dead letters, newest first, with reason, category and attempts; with ID, show it with its original event.
    Exit code 1: there is no such dead letter.

    With --events, list the events that Kafka refused, oldest first: the reason, and how many events of the same job
    wait behind.

    Examples: `headrace dead list --category poison --since 2h`, `headrace dead list --events`,
    `headrace dead list 7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00`
    """
    if events:
        if replayed or any(given is not None for given in (letter_id, stage, tenant, category, since, until)):
            raise ConfigurationError(f"--events lists all: leave out ID, --replayed, {_FILTERS}")
        list_events(limit, as_json)
        return
    ledger = need_ledger()
    if letter_id is not None:
        _show(ledger, letter_id, as_json)
        return
    wanted = replace(_filter(ledger, stage, tenant, category, since, until), replayed=replayed)
    letters = ledger.dead(wanted, limit + 1, whole=False)
    rows = list(map(letter_dict, letters)) if as_json else letters
    put_list(rows, COLUMNS, "no dead letters", as_json=as_json, limit=limit, right=("attempts",), whole=WHOLE)


def _show(ledger: Ledger, letter_id: str, as_json: bool) -> None:
    letters: list[Any] = ledger.dead(DeadFilter(id=letter_id, replayed=True), 10)
    if not letters:
        say(f"{letter_id}: no dead letter of this id")
        raise typer.Exit(1)
    for letter in letters:
        if as_json:
            put_json({**letter_dict(letter), **original(letter)})
            continue
        facts = letter_dict(letter) | {
            "died_at": show_time(letter.died_at),
            "replayed_at": show_time(letter.replayed_at),
        }
        console(data=True).print(
            table(None, ("dead letter", ""), [(name, str(value)) for name, value in facts.items() if value is not None])
        )
        record = original(letter)
        for name, value in record["headers"].items():
            put(printable(f"{name}: {value}"))
        put(printable(record["original"]))


def replay(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="dead letters or jobs")] = None,
    everything: Annotated[bool, typer.Option("--all", help="all of them")] = False,
    stage: _StageOption = None,
    tenant: _TenantOption = None,
    category: _CategoryOption = None,
    since: _SinceOption = None,
    until: _UntilOption = None,
    events: _EventsOption = False,
    as_json: JsonLinesOption = False,
) -> None:
    """Replay dead letters: by id, stage, tenant, category or time, or all.

    With --events, publish events that Kafka refused again, by id or all, and the events that wait behind them: in
    order, with the same ids.

    A job continues at the step where it died. A record that admission refused is published again unchanged. Exit code
    1: nothing was replayed, or not all could be.

    Examples: `headrace dead replay --category transient --since 1h`, `headrace dead replay --events --all`
    """
    filtered = any(given is not None for given in (stage, tenant, category, since, until))
    if events and not filtered:
        retry(ids, everything, as_json)
    if events or (bool(ids) + everything + filtered) != 1:
        raise ConfigurationError(f"give ids, or --all, or (not for --events) one or more of {_FILTERS}")
    ledger = need_ledger()
    now = ledger.now()
    done = cut = 0
    if ids:
        for letter_id in ids:
            # Also one that was replayed before: it is named, so it is meant.
            number, lost = ledger.replay(DeadFilter(id=letter_id, replayed=True), 1)
            if not number + lost:
                say(f"{letter_id}: no dead letter of this id")
            done, cut = done + number, cut + lost
    else:
        # Skip jobs that die from now on: a job that fails at once would be replayed for ever.
        wanted = _filter(ledger, stage, tenant, category, since, until, now=now)
        while True:
            number, cut = ledger.replay(wanted, _BATCH)
            done += number
            if not number:
                break
    if as_json:
        put_json({"replayed": done, "truncated": cut})
    say(f"{done} replayed" + (f"; {cut} cannot be replayed: the ledger's copy of the original is cut" if cut else ""))
    if done:
        ring_bridges()
    raise typer.Exit(0 if done and not cut and (not ids or done == len(ids)) else 1)


def _filter(
    ledger: Ledger,
    stage: str | None,
    tenant: str | None,
    category: Category | None,
    since: str | None,
    until: str | None,
    *,
    now: int | None = None,
) -> DeadFilter:
    """Return the filter for these options. Times count from the ledger's clock, which dates the dead letters."""
    present = datetime.fromtimestamp((now or ledger.now()) / 1000, UTC)
    return DeadFilter(
        stage=stage,
        tenant=tenant,
        category=category,
        since_ms=milliseconds(parse_time(since, present)) if since else None,
        until_ms=milliseconds(parse_time(until, present)) if until else now,
    )
