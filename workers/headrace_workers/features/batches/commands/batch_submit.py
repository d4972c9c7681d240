"""`headrace batch submit`: files as batches, or what they would come to."""

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.job import Lane
from headrace_schemas.limits import MAX_COMPLETION_TOKENS
from headrace_workers.cli import asking
from headrace_workers.cli.options import MOST_TOKENS, checked_tenant
from headrace_workers.cli.output import flush, printable, put, put_json, put_view, say

if TYPE_CHECKING:
    from sqlalchemy import Row

    from headrace_workers.features.batches.commands.batch_files import Deployment
    from headrace_workers.features.batches.new_batch import BatchOptions

OneJsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object, as OpenAI's clients read it")]
BudgetOption = Annotated[
    int | None, typer.Option("--max-tokens", min=1, max=MOST_TOKENS, help="token budget of the whole batch")
]
WatchOption = Annotated[bool, typer.Option("--watch", "-w", help="show its progress until it ends")]


@asking.asks(lane=Lane.BATCH)
def submit(
    source: Annotated[
        str,
        typer.Argument(
            metavar="FILE", help="JSON lines, also .gz and .zst; a folder of such files; or - for standard input"
        ),
    ],
    asked: asking.JobOptions,
    answer_tokens: Annotated[
        int | None,
        typer.Option("--answer-tokens", min=1, max=MAX_COMPLETION_TOKENS, help="longest answer, in tokens"),
    ] = None,
    window: Annotated[str, typer.Option("--window", help="the batch expires after, e.g. 90m, 24h, 7d")] = "24h",
    max_tokens: BudgetOption = None,
    callback: Annotated[
        str | None, typer.Option("--callback", help="a URL, or a webhook endpoint's id, to notify of its end")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="a new name runs the same file again")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="submit nothing; print a forecast")] = False,
    watched: WatchOption = False,
    as_json: OneJsonOption = False,
) -> None:
    """Submit a file as a batch, or each file of a folder, and print the batch ids.

    A line is a job as for `headrace run`. A wrong line becomes a line of the error file and stops nothing. The same
    file with the same options is the same batch: if you submit it again, its id is printed. Exit code 1: a file of the
    folder was refused; with `--watch`: some lines were not answered; with `--dry-run`: some lines would not be run.

    Examples: `headrace batch submit jobs.jsonl`, `headrace batch submit jobs.jsonl.zst --window 7d --watch`
    """
    from headrace_workers.features.batches.commands.batch_files import deployment

    wishes = _options(asked, answer_tokens, window, max_tokens, callback, name)
    with deployment() as here:
        if dry_run:
            raise typer.Exit(0 if _forecast(here, source, wishes, as_json=as_json) else 1)
        found = list(_submitted(here, source, wishes, as_json=as_json))
        ends = [watch_batch(here, batch_id) for batch_id in found if batch_id is not None] if watched else []
    raise typer.Exit(0 if all(ends) and None not in found else 1)


def watch_batch(here: "Deployment", batch_id: str) -> bool:
    """Show the progress of a batch until it ends; return True if every line was answered."""
    from headrace_workers.features.batches.commands.batch_views import watched

    return watched(lambda: here.batch(batch_id, None))


def _options(
    asked: asking.JobOptions,
    answer_tokens: int | None,
    window: str,
    max_tokens: int | None,
    callback: str | None,
    name: str,
) -> "BatchOptions":
    """Return the options of a batch. Raise ConfigurationError for a wrong one."""
    from headrace_workers.cli.durations import parse_duration
    from headrace_workers.features.batches.commands.batch_files import callback_of
    from headrace_workers.features.batches.new_batch import LONGEST_SECONDS, LONGEST_WINDOW, BatchOptions

    defaults = asked.defaults(max_tokens=answer_tokens)
    seconds = parse_duration(window).total_seconds()
    if len(window) > LONGEST_WINDOW:
        raise ConfigurationError(f"--window has more than {LONGEST_WINDOW} characters: write 90m, 24h or 7d")
    if not 0 < seconds <= LONGEST_SECONDS:
        raise ConfigurationError(f"--window is {window!r}; it must be more than 0 and at most 30d")
    return BatchOptions(
        tenant=checked_tenant(str(defaults.fields["tenant"])),
        defaults=defaults,
        window=seconds,
        window_text=window,
        max_tokens=max_tokens,
        name=name,
        callback=None if callback is None else callback_of(callback),
    )


def _submitted(here: "Deployment", source: str, wishes: "BatchOptions", *, as_json: bool) -> Iterator[str | None]:
    """Yield the batch id of each file as soon as it is known; None for a file of a folder that is refused."""
    from headrace_workers.core.text_file import NotReadable
    from headrace_workers.features.batches.commands.batch_files import Changed, sources
    from headrace_workers.features.batches.new_batch import EmptyInput

    for path, shown in sources(source):
        try:
            batch, new = here.submit(path, shown, wishes)
        except (EmptyInput, Changed, NotReadable) as error:
            if not Path(source).is_dir():
                raise
            say(f"headrace: {error}")
            yield None
            continue
        tell_batch(batch, as_json=as_json)
        say(f"{shown}: {_how_it_stands(batch, new=new)}")
        yield batch.id


def tell_batch(batch: "Row[Any]", *, as_json: bool) -> None:
    """Print a batch's id, or the whole batch."""
    from headrace_workers.features.batches.views import Batch

    if as_json:
        put_view(Batch.of(batch))
    else:
        put(batch.id)
    flush()


def _how_it_stands(batch: "Row[Any]", *, new: bool) -> str:
    from headrace_workers.features.batches.views import progress_words

    return f"{batch.total:,} lines" if new else f"submitted before; {progress_words(batch)}"


def _forecast(here: "Deployment", source: str, wishes: "BatchOptions", *, as_json: bool) -> bool:
    """Print the forecast of each file; return True if every line would be run."""
    from headrace_workers.features.batches.commands.batch_files import sources
    from headrace_workers.features.batches.commands.forecasting import Forecasting

    wrong = 0
    here.check_callback(wishes)
    forecasting = Forecasting(here)
    for path, shown in sources(source):
        found = forecasting.of(path, shown, wishes)
        wrong += found.failed.total()
        if as_json:
            put_json(forecasting.to_json(found))
        else:
            say(f"{shown}: nothing was submitted")
            for line in forecasting.lines(found, wishes.max_tokens):
                put(printable(line))
    return not wrong
