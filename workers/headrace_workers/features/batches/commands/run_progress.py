"""Progress of a run: a live bar on a terminal, a line now and then elsewhere."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from headrace_workers.cli.output import console, printable, say
from headrace_workers.cli.receipt_lines import Receipt
from headrace_workers.cli.tables import shorten
from headrace_workers.features.batches.commands.run_summary import Tally, rate

_LINE_SECONDS = 10.0
_FIRST_WIDTH = 300  # characters of the first answer

Show = Callable[[Tally, Sequence[Receipt]], None]


def words(tally: Tally, seconds: float) -> str:
    """Return the text beside the bar: the speed, and how many died."""
    dead = f", {tally.unanswered:,} without an answer" if tally.unanswered else ""
    return f"{rate(tally.completion_tokens, seconds):,.0f} tokens/s{dead}"


@contextmanager
def shown(total: int, before: int = 0) -> Iterator[Show]:
    """Call the function that this gives with the tally of this run and what has just ended, as often as you like.

    `before` jobs of `total` ended in earlier runs. The first answer is shown as soon as it is there.
    """
    terminal = console()
    started = time.monotonic()
    first = _First(started)
    if terminal.is_terminal:
        with _bar(terminal) as bar:
            task = bar.add_task("answering", total=total, completed=before, words="")

            def draw(tally: Tally, ended: Sequence[Receipt]) -> None:
                if line := first.of(ended):
                    bar.console.print(line, markup=False)  # above the bar
                bar.update(task, completed=before + tally.jobs, words=words(tally, time.monotonic() - started))

            draw(Tally(), ())
            yield draw
        return
    last = started

    def tell(tally: Tally, ended: Sequence[Receipt]) -> None:
        nonlocal last
        if line := first.of(ended):
            say(line)
        now = time.monotonic()
        done = before + tally.jobs
        if now - last >= _LINE_SECONDS or done == total:
            last = now
            say(f"{done:,}/{total:,} ended, {words(tally, now - started)}")

    yield tell


class _First:
    """The first answer that has a text, once."""

    def __init__(self, started: float) -> None:
        self._started = started
        self._shown = False

    def of(self, ended: Sequence[Receipt]) -> str | None:
        """Return a line about the first answer, if it is among these."""
        texts = ((receipt.line, text) for receipt in ended if (text := receipt.text))
        found = None if self._shown else next(texts, None)
        if found is None:
            return None
        self._shown = True
        line, text = found
        seconds = time.monotonic() - self._started
        return f"the first answer, after {seconds:.1f} s (line {line}): {printable(shorten(text, _FIRST_WIDTH))}"


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
