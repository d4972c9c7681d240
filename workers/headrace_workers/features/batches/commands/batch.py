"""`headrace batch`: files of many jobs: submitting them, looking at them, reading what came of them."""

import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, Final

import typer
from sqlalchemy import Row

from headrace_schemas.callback import BatchCallback
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.job import Lane
from headrace_schemas.limits import MAX_COMPLETION_TOKENS
from headrace_workers.cli import asking
from headrace_workers.cli.connections import ring_bridges
from headrace_workers.cli.durations import parse_duration, show_ms
from headrace_workers.cli.options import MOST_TOKENS, JsonLinesOption, checked_tenant, limit_option
from headrace_workers.cli.output import (
    Column,
    console,
    flush,
    printable,
    put,
    put_json,
    put_list,
    put_view,
    say,
    write_file,
)
from headrace_workers.core.text_file import NotReadable
from headrace_workers.features.batches.commands.batch_files import (
    Changed,
    Deployment,
    callback_of,
    deployment,
    ordered,
    sources,
)
from headrace_workers.features.batches.commands.forecast import Forecasting
from headrace_workers.features.batches.new_batch import LONGEST_SECONDS, LONGEST_WINDOW, BatchOptions, EmptyInput
from headrace_workers.features.batches.new_batch import retry_failed as again
from headrace_workers.features.batches.store.batches import CANCELLED, CANCELLING
from headrace_workers.features.batches.views import Batch, is_over, progress_words

_NUMBERS: Final[Mapping[str, Column]] = {
    "total": lambda batch: batch.request_counts.total, "completed": lambda batch: batch.request_counts.completed,
    "failed": lambda batch: batch.request_counts.failed, "cached": lambda batch: batch.headrace.cached,
    "tokens": lambda batch: batch.usage.total_tokens,
}  # fmt: skip
_COLUMNS: Final[Mapping[str, Column]] = {
    "batch": "id", "status": "status", **_NUMBERS, "tenant": lambda batch: batch.headrace.tenant,
}  # fmt: skip
_POLL_SECONDS = 0.5
_LINE_SECONDS = 10.0

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
    wishes = _options(asked, answer_tokens, window, max_tokens, callback, name)
    with deployment() as here:
        if dry_run:
            raise typer.Exit(0 if _forecast(here, source, wishes, as_json=as_json) else 1)
        found = list(_submitted(here, source, wishes, as_json=as_json))
        ends = [watch_batch(here, batch_id) for batch_id in found if batch_id is not None] if watched else []
    raise typer.Exit(0 if all(ends) and None not in found else 1)


def watch_batch(here: Deployment, batch_id: str) -> bool:
    """Show the progress of a batch until it ends: a live bar on a terminal, a line now and then elsewhere.

    Return True if every line was answered.
    """
    batch = here.batch(batch_id, None)
    terminal = console()
    started, before = time.monotonic(), batch.completed + batch.failed
    first_tokens = batch.completion_tokens

    def words() -> str:
        seconds = max(0.001, time.monotonic() - started)
        rate = (batch.completion_tokens - first_tokens) / seconds
        failed = f", {batch.failed:,} failed" if batch.failed else ""
        cached = f", {batch.cached:,} cached" if batch.cached else ""
        return f"{rate:,.0f} tokens/s{failed}{cached}"

    if terminal.is_terminal:
        with _bar(terminal) as bar:
            task = bar.add_task(batch.state, total=batch.total, completed=before, words="")
            while not is_over(batch):
                time.sleep(_POLL_SECONDS)
                batch = here.batch(batch_id, None)
                bar.update(task, description=batch.state, completed=batch.completed + batch.failed, words=words())
    else:
        shown = started
        while not is_over(batch):
            time.sleep(_POLL_SECONDS)
            batch = here.batch(batch_id, None)
            if time.monotonic() - shown >= _LINE_SECONDS:
                shown = time.monotonic()
                say(f"{batch.id} is {progress_words(batch)}, {words()}")
    say(f"{batch.id} is {progress_words(batch)}")
    return bool(batch.completed == batch.total)


def _bar(terminal: Any) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
        TimeRemainingColumn(),
        console=terminal,
    )


def _options(
    asked: asking.JobOptions,
    answer_tokens: int | None,
    window: str,
    max_tokens: int | None,
    callback: str | None,
    name: str,
) -> BatchOptions:
    """Return the options of a batch. Raise ConfigurationError for a wrong one."""
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


def _submitted(here: Deployment, source: str, wishes: BatchOptions, *, as_json: bool) -> Iterator[str | None]:
    """Yield the batch id of each file as soon as it is known; None for a file of a folder that is refused."""
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


def tell_batch(batch: Row[Any], *, as_json: bool) -> None:
    """Print a batch's id, or the whole batch."""
    if as_json:
        put_view(Batch.of(batch))
    else:
        put(batch.id)
    flush()


def _how_it_stands(batch: Row[Any], *, new: bool) -> str:
    return f"{batch.total:,} lines" if new else f"submitted before; {progress_words(batch)}"


def _forecast(here: Deployment, source: str, wishes: BatchOptions, *, as_json: bool) -> bool:
    """Print the forecast of each file; return True if every line would be run."""
    wrong = 0
    here.check_callback(wishes)
    forecasting = Forecasting(here)
    for path, shown in sources(source):
        forecast = forecasting.of(path, shown, wishes)
        wrong += forecast.failed.total()
        if as_json:
            put_json(forecasting.to_json(forecast))
        else:
            say(f"{shown}: nothing was submitted")
            for line in forecasting.lines(forecast, wishes.max_tokens):
                put(printable(line))
    return not wrong


_IdArgument = Annotated[str, typer.Argument(metavar="BATCH", help="the batch's id")]
_TenantOption = Annotated[str | None, typer.Option("--tenant", help="its tenant [HEADRACE_TENANT]")]


def facts(batch: Row[Any], codes: Counter[str]) -> list[str]:
    """Return all facts of a batch, a line each."""
    lines = [f"{batch.id} is {progress_words(batch)}"]
    if batch.reason:
        lines.append(f"it failed: {batch.reason}")
    lines += [f"  {count:,} not answered: {code}" for code, count in codes.most_common()]
    lines.append(f"tokens: {batch.prompt_tokens:,} read, {batch.completion_tokens:,} written")
    if batch.max_tokens is not None:
        lines.append(f"of {batch.max_tokens:,} tokens {batch.spent:,} are spent and {batch.reserved:,} reserved")
    if batch.callback:
        callback = BatchCallback.model_validate_json(batch.callback)
        lines.append(f"its end is told to {callback.url or callback.endpoint}")
    if is_over(batch):
        lines.append(f"it took {show_ms(batch.ended_at - batch.created_at)}")
    files = (("input", batch.input_file), ("output", batch.output_file), ("errors", batch.error_file))
    return lines + [f"{name}: {file}" for name, file in files if file]


def status(
    batch_id: Annotated[str | None, typer.Argument(metavar="[BATCH]", help="the batch's id")] = None,
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    limit: Annotated[int, limit_option("without BATCH: at most so many, newest first")] = 20,
    watched: WatchOption = False,
    as_json: JsonLinesOption = False,
) -> None:
    """Show a batch; without BATCH, list batches, newest first. With --watch, show its progress until it ends. Exit code
    1: some lines were not answered.

    Examples: `headrace batch status`, `headrace batch status batch_6b0f… --watch`
    """
    with _deployment() as here:
        if batch_id is None:
            if watched:
                raise ConfigurationError("--watch is for one batch: give its id")
            batches = list(map(Batch.of, here.batches.batches(tenant, limit=limit)))
            nothing = "no batches: `headrace batch submit FILE` makes one"
            put_list(batches, _COLUMNS, nothing, as_json=as_json, right=tuple(_NUMBERS), whole=("batch",))
            return
        batch = here.batch(batch_id, tenant)
        if watched:
            raise typer.Exit(0 if watch_batch(here, batch_id) else 1)
        if as_json:
            put_view(Batch.of(batch))
            return
        for line in facts(batch, here.batches.codes(batch.number)):
            put(printable(line))


def results(
    batch_id: _IdArgument,
    output: Annotated[Path | None, typer.Option("--output", "-o", help="a file; by default standard output")] = None,
    errors: Annotated[bool, typer.Option("--errors", help="the lines that were not answered")] = False,
    in_order: Annotated[bool, typer.Option("--in-order", help="in the order of the input")] = False,
    tenant: _TenantOption = None,
) -> None:
    """Print the answers that exist so far, or write them to a file. With --errors, the lines that were not answered:
    each has its number and the reason.

    Example: `headrace batch results batch_6b0f… -o answers.jsonl --in-order`
    """
    with _deployment() as here:
        batch = here.batch(batch_id, tenant)
        _copy(here, batch, batch.error_file if errors else batch.output_file, output, in_order=in_order)


def cancel(batch_id: _IdArgument, tenant: _TenantOption = None, as_json: OneJsonOption = False) -> None:
    """Cancel a batch. Its answers are kept, its running jobs are cancelled. Exit code 1: it had ended before.

    Example: `headrace batch cancel batch_6b0f…`
    """
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
    with _deployment() as here:
        before = here.batch(batch_id, tenant)
        batch, new = again(here.batches, here.files, before, max_tokens=max_tokens, keep=here.keep)
        ring_bridges()
        tell_batch(batch, as_json=as_json)
        say(f"{batch.total:,} lines of {before.id}" if new else f"submitted before; {progress_words(batch)}")
        if watched:
            raise typer.Exit(0 if watch_batch(here, batch.id) else 1)


def _copy(here: Deployment, batch: Any, file_id: str | None, output: Path | None, *, in_order: bool) -> None:
    """Write a file of a batch. An interruption leaves the old file as it was."""
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
def _deployment() -> Iterator[Deployment]:
    with deployment() as here:
        yield here
