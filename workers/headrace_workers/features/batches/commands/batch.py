"""`headrace batch`: files of many jobs: submitting them, looking at them, reading what came of them."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace_workers.cli.connections import ring_bridges
from headrace_workers.cli.options import limit_option
from headrace_workers.cli.output import console, printable, put, put_view, say, table
from headrace_workers.features.batches.commands.batch_submit import (
    BudgetOption,
    OneJsonOption,
    WatchOption,
    submit,
    tell_batch,
    watch_batch,
)

if TYPE_CHECKING:
    from headrace_workers.features.batches.commands.batch_files import Deployment

_IdArgument = Annotated[str, typer.Argument(metavar="BATCH", help="the batch's id")]
_TenantOption = Annotated[str | None, typer.Option("--tenant", help="its tenant [HEADRACE_TENANT]")]
_OutputOption = Annotated[Path | None, typer.Option("--output", "-o", help="a file; by default standard output")]


def register(app: typer.Typer) -> None:
    """Add these commands."""
    batch = typer.Typer(
        help="Submit files of many jobs as batches, watch them, read their results.", no_args_is_help=True
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


def list_batches(
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    limit: Annotated[int, limit_option("at most so many, newest first")] = 20,
    as_json: Annotated[bool, typer.Option("--json", help="print JSON lines")] = False,
) -> None:
    """List batches, newest first.

    Example: `headrace batch list`
    """
    from headrace_workers.features.batches.commands.batch_views import COLUMNS, NUMBERS, batch_row
    from headrace_workers.features.batches.views import Batch

    with _deployment() as here:
        found = here.batches.batches(tenant, limit=limit)
    if as_json:
        for batch in found:
            put_view(Batch.of(batch))
    elif found:
        rows = [batch_row(Batch.of(batch)) for batch in found]
        console(data=True).print(table(None, COLUMNS, rows, right=NUMBERS, whole=("batch",)))
    else:
        say("no batches: `headrace batch submit FILE` makes one")


def status(batch_id: _IdArgument, tenant: _TenantOption = None, as_json: OneJsonOption = False) -> None:
    """Show a batch.

    Example: `headrace batch status batch_6b0f…`
    """
    from headrace_workers.features.batches.commands.batch_views import facts
    from headrace_workers.features.batches.views import Batch

    with _deployment() as here:
        batch = here.batch(batch_id, tenant)
        if as_json:
            put_view(Batch.of(batch))
            return
        for line in facts(batch, here.batches.codes(batch.number)):
            put(printable(line))


def watch(batch_id: _IdArgument, tenant: _TenantOption = None) -> None:
    """Show the progress of a batch until it ends. Exit code 1: some lines were not answered.

    Example: `headrace batch watch batch_6b0f…`
    """
    with _deployment() as here:
        here.batch(batch_id, tenant)
        raise typer.Exit(0 if watch_batch(here, batch_id) else 1)


def results(
    batch_id: _IdArgument,
    output: _OutputOption = None,
    in_order: Annotated[bool, typer.Option("--in-order", help="in the order of the input")] = False,
    tenant: _TenantOption = None,
) -> None:
    """Print the answers that exist so far, or write them to a file.

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
    """Print the lines that were not answered, or write them to a file. Each has its number and the reason.

    Example: `headrace batch errors batch_6b0f…`
    """
    with _deployment() as here:
        batch = here.batch(batch_id, tenant)
        _copy(here, batch, batch.error_file, output, in_order=in_order)


def cancel(batch_id: _IdArgument, tenant: _TenantOption = None, as_json: OneJsonOption = False) -> None:
    """Cancel a batch. Its answers are kept, its running jobs are cancelled. Exit code 1: it had ended before.

    Example: `headrace batch cancel batch_6b0f…`
    """
    from headrace_workers.features.batches.store.batches import CANCELLED, CANCELLING
    from headrace_workers.features.batches.views import Batch, progress_words

    with _deployment() as here:
        before = here.batch(batch_id, tenant)
        batch = here.batches.cancel(before.id) or before
    ring_bridges()
    if as_json:
        put_view(Batch.of(batch))
    say(f"{batch.id}: {progress_words(batch)}")
    raise typer.Exit(0 if batch.state in (CANCELLING, CANCELLED) else 1)


def retry_failed(
    batch_id: _IdArgument,
    max_tokens: BudgetOption = None,
    tenant: _TenantOption = None,
    watched: WatchOption = False,
    as_json: OneJsonOption = False,
) -> None:
    """Run the failed lines of an ended batch again, as a new batch, and print its id.

    Lines keep their numbers. Lines that ended as `budget` continue with the new budget. If you call it again, it is the
    same batch.

    Example: `headrace batch retry-failed batch_6b0f… --max-tokens 500000`
    """
    from headrace_workers.features.batches.retry_failed_lines import retry_failed as again
    from headrace_workers.features.batches.views import progress_words

    with _deployment() as here:
        before = here.batch(batch_id, tenant)
        batch, new = again(here.batches, here.files, before, max_tokens=max_tokens, keep=here.keep)
        ring_bridges()
        tell_batch(batch, as_json=as_json)
        say(f"{batch.total:,} lines of {before.id}" if new else f"submitted before; {progress_words(batch)}")
        if watched:
            raise typer.Exit(0 if watch_batch(here, batch.id) else 1)


def _copy(here: "Deployment", batch: Any, file_id: str | None, output: Path | None, *, in_order: bool) -> None:
    """Write a file of a batch. What interrupts it leaves the old file as it was."""
    from headrace_workers.cli.whole_file import write_file
    from headrace_workers.features.batches.commands.batch_files import ordered
    from headrace_workers.features.batches.views import progress_words

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
    from headrace_workers.features.batches.commands.batch_files import deployment

    with deployment() as here:
        yield here
