"""`headrace batch`: files of many jobs: submitting them, looking at them, reading what came of them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.job import Lane
from headrace_workers.cli import asking
from headrace_workers.cli.output import console, flush, printable, put, put_json, say, table

if TYPE_CHECKING:
    from headrace_workers.batches.submit import Wishes
    from headrace_workers.cli.batch_files import Deployment

_IdArgument = Annotated[str, typer.Argument(metavar="BATCH", help="the batch's id")]
_TenantOption = Annotated[str | None, typer.Option("--tenant", help="whose it is [HEADRACE_TENANT]")]
_OneJsonOption = Annotated[bool, typer.Option("--json", help="print one JSON object, as OpenAI's clients read it")]
_OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="a file; standard output without")]
_BudgetOption = Annotated[int | None, typer.Option("--max-tokens", min=1, help="that the whole batch may cost")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    batch = typer.Typer(
        help="Files of many jobs: submit them, watch them, read what came of them.", no_args_is_help=True
    )
    batch.command("submit")(submit)
    batch.command("list")(list_batches)
    batch.command("status")(status)
    batch.command("watch")(watch)
    batch.command("results")(results)
    batch.command("errors")(errors)
    batch.command("cancel")(cancel)
    batch.command("retry-failed")(retry_failed)
    app.add_typer(batch, name="batch")


@asking.asks(lane=Lane.BATCH)
def submit(
    source: Annotated[
        str, typer.Argument(metavar="FILE", help="JSON lines, also .gz and .zst; a folder of such; or -")
    ],
    asked: asking.Asked,
    answer_tokens: Annotated[
        int | None, typer.Option("--answer-tokens", min=1, help="longest answer, in tokens")
    ] = None,
    window: Annotated[str, typer.Option("--window", help="it expires after, e.g. 90m, 24h, 7d")] = "24h",
    max_tokens: _BudgetOption = None,
    callback: Annotated[
        str | None, typer.Option("--callback", help="a URL, or a webhook endpoint's id, that is told of its end")
    ] = None,
    name: Annotated[str, typer.Option("--name", help="another name runs the same file once more")] = "",
    dry_run: Annotated[bool, typer.Option("--dry-run", help="submit nothing: say what it would come to")] = False,
    watched: Annotated[bool, typer.Option("--watch", "-w", help="wait for its end, and show how far it is")] = False,
    as_json: _OneJsonOption = False,
) -> None:
    """Submit a file as a batch, or each file of a folder, and print its id.

    A line is a job as for `headrace run`. A wrong line becomes a line of the error file, and stops nothing. The same
    file with the same options is the same batch: submitted again, its id is printed. Exit code 1: a file of the folder
    was refused; with `--watch`: not every line was answered; with `--dry-run`: not every line would be run.

    Examples: `headrace batch submit jobs.jsonl`, `headrace batch submit jobs.jsonl.zst --window 7d --watch`
    """
    from headrace_workers.batches.submit import LONGEST_WINDOW, EmptyInput, Wishes
    from headrace_workers.batches.views import batch_object, progress_words
    from headrace_workers.cli.batch_files import Changed, callback_of, sources
    from headrace_workers.cli.durations import parse_duration

    defaults = asked.defaults(max_tokens=answer_tokens)
    wishes = Wishes(
        tenant=str(defaults.fields["tenant"]), defaults=defaults, window=parse_duration(window).total_seconds(),
        asked=window, max_tokens=max_tokens, name=name, callback=None if callback is None else callback_of(callback),
    )  # fmt: skip
    if len(window) > LONGEST_WINDOW:
        raise ConfigurationError(f"--window has more than {LONGEST_WINDOW} characters: write 90m, 24h or 7d")
    if dry_run:
        raise typer.Exit(_dry_run(source, wishes, as_json=as_json))
    ids: list[str] = []
    refused = 0
    with _deployment() as here:
        for path, shown in sources(source):
            try:
                batch, new = here.submit(path, shown, wishes)
            except (EmptyInput, Changed) as error:
                if not Path(source).is_dir():
                    raise
                refused += 1
                say(f"headrace: {error}")
                continue
            ids.append(batch.id)
            if as_json:
                put_json(batch_object(batch))
            else:
                put(batch.id)
            flush()
            say(f"{shown}: {batch.total:,} lines" if new else f"{shown}: submitted before; {progress_words(batch)}")
        ends = [_watch(here, batch_id) for batch_id in ids] if watched else []
        raise typer.Exit(0 if all(ends) and not refused else 1)


def list_batches(
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1, help="the newest so many")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON lines")] = False,
) -> None:
    """List batches, newest first.

    Example: `headrace batch list`
    """
    from headrace_workers.batches.views import batch_object
    from headrace_workers.cli.batch_views import COLUMNS, NUMBERS, batch_row

    with _deployment() as here:
        found = here.batches.batches(tenant, limit=limit)
    if as_json:
        for batch in found:
            put_json(batch_object(batch))
    elif found:
        rows = [batch_row(batch) for batch in found]
        console(data=True).print(table(None, COLUMNS, rows, right=NUMBERS, whole=("batch",)))
    else:
        say("no batches: `headrace batch submit FILE` makes one")


def status(batch_id: _IdArgument, tenant: _TenantOption = None, as_json: _OneJsonOption = False) -> None:
    """Show how a batch stands.

    Example: `headrace batch status batch_6b0f…`
    """
    from headrace_workers.batches.views import batch_object
    from headrace_workers.cli.batch_views import facts

    with _deployment() as here:
        batch = here.batch(batch_id, tenant)
        if as_json:
            put_json(batch_object(batch))
            return
        for line in facts(batch, here.batches.codes(batch.number)):
            put(printable(line))


def watch(batch_id: _IdArgument, tenant: _TenantOption = None) -> None:
    """Show how far a batch is until it is over. Exit code 1: not every line was answered.

    Example: `headrace batch watch batch_6b0f…`
    """
    with _deployment() as here:
        here.batch(batch_id, tenant)
        raise typer.Exit(0 if _watch(here, batch_id) else 1)


def results(
    batch_id: _IdArgument,
    output: _OutputOption = None,
    in_order: Annotated[bool, typer.Option("--in-order", help="in the order of the input")] = False,
    tenant: _TenantOption = None,
) -> None:
    """Print the answers, or write them to a file: those that are there, also while the batch runs.

    Example: `headrace batch results batch_6b0f… -o answers.jsonl --in-order`
    """
    with _deployment() as here:
        batch = here.batch(batch_id, tenant)
        _copy(here, batch, batch.output_file, output, in_order=in_order)


def errors(
    batch_id: _IdArgument,
    output: _OutputOption = None,
    in_order: Annotated[bool, typer.Option("--in-order", help="in the order of the input")] = False,
    tenant: _TenantOption = None,
) -> None:
    """Print the lines that were not answered, each with its number and the reason, or write them to a file.

    Example: `headrace batch errors batch_6b0f…`
    """
    with _deployment() as here:
        batch = here.batch(batch_id, tenant)
        _copy(here, batch, batch.error_file, output, in_order=in_order)


def cancel(batch_id: _IdArgument, tenant: _TenantOption = None, as_json: _OneJsonOption = False) -> None:
    """Cancel a batch: what is done is kept, and what runs is let go of. Exit code 1: it was over before.

    Example: `headrace batch cancel batch_6b0f…`
    """
    from headrace_workers.batches.views import batch_object, progress_words
    from headrace_workers.ledger.batches import CANCELLED, CANCELLING

    with _deployment() as here:
        before = here.batch(batch_id, tenant)
        batch = here.batches.cancel(before.id) or before
    if as_json:
        put_json(batch_object(batch))
    say(f"{batch.id}: {progress_words(batch)}")
    raise typer.Exit(0 if batch.state in (CANCELLING, CANCELLED) else 1)


def retry_failed(
    batch_id: _IdArgument,
    max_tokens: _BudgetOption = None,
    tenant: _TenantOption = None,
    watched: Annotated[bool, typer.Option("--watch", "-w", help="wait for its end, and show how far it is")] = False,
    as_json: _OneJsonOption = False,
) -> None:
    """Run the lines that failed of a batch that is over, as a batch of its own, and print its id.

    Lines keep their numbers. What ended as `budget` goes on by this with more. Called again, it is the same batch.

    Example: `headrace batch retry-failed batch_6b0f… --max-tokens 500000`
    """
    from headrace_workers.batches.again import retry_failed as again
    from headrace_workers.batches.views import batch_object, progress_words

    with _deployment() as here:
        before = here.batch(batch_id, tenant)
        batch, new = again(here.batches, here.files, before, max_tokens=max_tokens, keep=here.keep)
        if as_json:
            put_json(batch_object(batch))
        else:
            put(batch.id)
        flush()
        say(f"{batch.total:,} lines of {before.id}" if new else f"submitted before; {progress_words(batch)}")
        if watched:
            raise typer.Exit(0 if _watch(here, batch.id) else 1)


def _dry_run(source: str, wishes: "Wishes", *, as_json: bool) -> int:
    from headrace_workers.cli.batch_files import sources
    from headrace_workers.cli.forecasting import Forecasting

    wrong = 0
    with _deployment() as here:
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
    return 1 if wrong else 0


def _watch(here: "Deployment", batch_id: str) -> bool:
    from headrace_workers.cli.batch_views import watched

    return watched(lambda: here.batch(batch_id, None))


def _copy(here: "Deployment", batch: Any, file_id: str | None, output: Path | None, *, in_order: bool) -> None:
    """Write a file of a batch. What interrupts it leaves the old file as it was."""
    from headrace_workers.batches.views import progress_words
    from headrace_workers.cli.batch_files import ordered, write_file

    chunks: Iterator[bytes] = iter(()) if file_id is None else here.files.chunks(file_id)
    if in_order:
        chunks = ordered(chunks)
    if output is not None:
        size = write_file(output, chunks)
        say(f"{output}: {size:,} bytes; {batch.id} {progress_words(batch)}")
        return
    sys.stdout.flush()
    for chunk in chunks:
        sys.stdout.buffer.write(chunk)
    sys.stdout.buffer.flush()


@contextmanager
def _deployment() -> "Iterator[Deployment]":
    from headrace_workers.cli.batch_files import deployment

    with deployment() as here:
        yield here
