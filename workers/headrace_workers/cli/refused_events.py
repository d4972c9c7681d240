"""Events that Kafka refused: `--events` of `headrace dead`, and `headrace dead drop`."""

from collections.abc import Collection, Mapping, Sequence
from typing import Annotated, Final, NoReturn

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.connections import need_ledger, ring_bridges
from headrace_workers.cli.job_views import SetAsideEvent
from headrace_workers.cli.options import OneJsonOption
from headrace_workers.cli.output import Column, be_sure, put_json, put_list, say

_COLUMNS: Final[Mapping[str, Column]] = {
    "id": lambda event: str(event.id), "job": lambda event: event.job_id or "–", "topic": "topic", "bytes": "size",
    "behind": "behind", "set aside": "set_aside_at", "reason": "reason",
}  # fmt: skip
_DIGITS = 18  # of a number that a database takes


def list_events(limit: int, as_json: bool) -> None:
    """List the events that Kafka refused, oldest first."""
    events = [SetAsideEvent.of(event) for event in need_ledger().aside(limit + 1)]
    put_list(
        events, _COLUMNS, "Kafka refused no event", as_json=as_json, limit=limit, which="oldest",
        right=("id", "bytes", "behind"), whole=("id", "job"),
    )  # fmt: skip


def retry(ids: list[str] | None, everything: bool, as_json: bool) -> NoReturn:
    """Publish refused events again. Exit code 1: there were none, or some ids do not exist."""
    if bool(ids) == everything:
        raise ConfigurationError("give ids, or --all")
    wanted, ledger = None if everything else _numbers(ids or []), need_ledger()
    if wanted is not None:
        _tell_unknown(wanted, {event.id for event in ledger.aside(len(wanted), ids=wanted)})
    done = ledger.retry_outbox(wanted)
    if as_json:
        put_json({"retried": done})
    say(f"{done} to be published again" + ("; `headrace dead list --events` shows any that fail again" * bool(done)))
    if done:
        ring_bridges()
    raise typer.Exit(0 if done and (wanted is None or done == len(wanted)) else 1)


def drop(
    ids: Annotated[list[str] | None, typer.Argument(metavar="[ID]...", help="ids of the events")] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    as_json: OneJsonOption = False,
) -> None:
    """Drop events that Kafka refused: they are never published, and the events after them continue.

    The ledger keeps the job and its end. Exit code 1: some ids do not exist, or you said no.

    Example: `headrace dead drop 17`
    """
    if not ids:
        raise ConfigurationError("give the ids of events, as `headrace dead list --events` shows them")
    wanted, ledger = _numbers(ids), need_ledger()
    asides = ledger.aside(len(wanted), ids=wanted)
    for event in asides:
        behind = f"; {event.behind:,} later events of it go on" if event.behind else ""
        say(
            f"{event.id}: {event.event_type} of {event.key or 'no job'}, {event.size:,} bytes, on {event.topic}{behind}"
        )
    _tell_unknown(wanted, {event.id for event in asides})
    if asides and not yes:
        say("readers of the topic will never see this; the ledger keeps the job and its end")
        be_sure(f"Drop {'it' if len(asides) == 1 else f'these {len(asides)}'} for good?", "nothing was dropped")
    done = ledger.drop_outbox([event.id for event in asides])
    if as_json:
        put_json({"dropped": done})
    say(f"{done} dropped")
    if done:
        ring_bridges()  # what waited behind goes on
    raise typer.Exit(0 if done == len(wanted) else 1)


def _numbers(ids: list[str]) -> list[int]:
    """Return the ids, each once, in order."""
    for text in ids:
        if not (text.isascii() and text.isdigit() and len(text) <= _DIGITS):
            raise ConfigurationError(
                f"{text!r} is not an event's id: give a number that `headrace dead list --events` shows"
            )
    return sorted({int(text) for text in ids})


def _tell_unknown(wanted: Sequence[int], found: Collection[int]) -> None:
    for number in sorted(set(wanted) - set(found)):
        say(f"{number}: no event of this id was set aside")
