"""Batches as people see them: rows, facts, and how far one is."""

import time
from collections import Counter
from collections.abc import Callable
from typing import Any, Final

from sqlalchemy import Row

from headrace_schemas.callback import BatchCallback
from headrace_workers.cli.durations import show_ms
from headrace_workers.cli.output import console, say
from headrace_workers.features.batches.views import Batch, is_over, progress_words

COLUMNS: Final = ("batch", "status", "total", "completed", "failed", "cached", "tokens", "tenant")
NUMBERS: Final = ("total", "completed", "failed", "cached", "tokens")
_POLL_SECONDS = 0.5
_LINE_SECONDS = 10.0


def batch_row(batch: Batch) -> tuple[str, ...]:
    """Return the cells of `COLUMNS`."""
    lines, own = batch.request_counts, batch.headrace
    counts = (lines.total, lines.completed, lines.failed, own.cached, batch.usage.total_tokens)
    return (batch.id, batch.status, *(f"{count:,}" for count in counts), own.tenant)


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


def watched(look: Callable[[], Row[Any]]) -> bool:
    """Show the progress of a batch until it ends: a live bar on a terminal, a line now and then elsewhere.

    Return True if every line was answered.
    """
    batch = look()
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
                batch = look()
                bar.update(task, description=batch.state, completed=batch.completed + batch.failed, words=words())
    else:
        shown = started
        while not is_over(batch):
            time.sleep(_POLL_SECONDS)
            batch = look()
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
