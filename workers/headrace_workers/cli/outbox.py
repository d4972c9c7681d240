"""`headrace outbox`: events that Kafka refused, and publishing them again."""

from typing import Annotated

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.durations import show_time
from headrace_workers.cli.output import console, put_json, say, table
from headrace_workers.cli.reach import need_ledger
from headrace_workers.cli.status_views import aside_dict

_COLUMNS = ("id", "job", "topic", "bytes", "behind", "set aside", "reason")
_JsonOption = Annotated[bool, typer.Option("--json", help="print JSON lines")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    outbox = typer.Typer(help="Events that Kafka refused: look at them, publish them again.", no_args_is_help=True)
    outbox.command("list")(list_events)
    outbox.command("retry")(retry)
    app.add_typer(outbox, name="outbox")


def list_events(
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="the oldest so many")] = 100,
    as_json: _JsonOption = False,
) -> None:
    """List events that were set aside, oldest first, with the reason and how many of the same job wait behind.

    Example: `headrace outbox list --json`
    """
    found = need_ledger().aside(limit + 1)
    if as_json:
        for event in found[:limit]:
            put_json(aside_dict(event))
    elif found:
        rows = [
            (str(event.id), event.key or "–", event.topic, f"{event.size:,}", f"{event.behind:,}",
             show_time(event.set_aside_at), event.reason)
            for event in found[:limit]
        ]  # fmt: skip
        console(data=True).print(table(None, _COLUMNS, rows, right=("id", "bytes", "behind"), whole=("id", "job")))
    else:
        say("no event was set aside")
    if len(found) > limit:
        say(f"only the oldest {limit} are shown: --limit shows more")


def retry(
    ids: Annotated[list[int] | None, typer.Argument(metavar="[ID]...", help="of the events")] = None,
    everything: Annotated[bool, typer.Option("--all", help="all of them")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="print one JSON object")] = False,
) -> None:
    """Publish again what was set aside, and what waits behind it: in order, with the same ids.

    Exit code 1: there was nothing, or not all of the ids were there.

    Examples: `headrace outbox retry 17`, `headrace outbox retry --all`
    """
    if bool(ids) == everything:
        raise ConfigurationError("say which: ids, or --all")
    wanted = None if everything else sorted(set(ids or ()))
    done = need_ledger().retry_outbox(wanted)
    if as_json:
        put_json({"retried": done})
    say(f"{done} to be published again" + ("; `headrace outbox list` shows those that are refused again" * bool(done)))
    raise typer.Exit(0 if done and (wanted is None or done == len(wanted)) else 1)
