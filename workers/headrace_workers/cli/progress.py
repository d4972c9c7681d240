"""How far a run is: a live bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from headrace_workers.cli.output import console, say
from headrace_workers.cli.summary import Tally, rate

_LINE_SECONDS = 10.0

Show = Callable[[Tally], None]


def words(tally: Tally, seconds: float) -> str:
    """What stands beside the bar: speed, and how many died."""
    dead = f", {tally.unanswered:,} without an answer" if tally.unanswered else ""
    return f"{rate(tally.completion_tokens, seconds):,.0f} tokens/s{dead}"


@contextmanager
def shown(total: int, before: int = 0) -> Iterator[Show]:
    """Call the function that this gives with the tally of this run, as often as you like.

    `before` jobs of `total` were answered in earlier runs.
    """
    terminal = console()
    started = time.monotonic()
    if terminal.is_terminal:
        with _bar(terminal) as bar:
            task = bar.add_task("answering", total=total, completed=before, words="")

            def draw(tally: Tally) -> None:
                bar.update(task, completed=before + tally.jobs, words=words(tally, time.monotonic() - started))

            draw(Tally())
            yield draw
        return
    last = started

    def tell(tally: Tally) -> None:
        nonlocal last
        now = time.monotonic()
        done = before + tally.jobs
        if now - last >= _LINE_SECONDS or done == total:
            last = now
            say(f"{done:,}/{total:,} answered, {words(tally, now - started)}")

    yield tell


def _bar(terminal: Any) -> Any:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    return Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[words]}"),
        TimeElapsedColumn(),
        console=terminal,
    )
