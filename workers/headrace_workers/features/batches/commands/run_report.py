"""The report of a run: a table of receipts and a summary."""

import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from statistics import median
from typing import Any, Final

from rich.console import Group

from headrace_schemas import Answer, DeadLetter, Result, StageRecord
from headrace_schemas.grounding import Grounding
from headrace_schemas.recall import CacheTier
from headrace_workers.cli.durations import show_ms
from headrace_workers.cli.output import Line, Rows, console, printable, say, table
from headrace_workers.cli.receipts import Receipt, causes, checks, row, shorten, verdicts


@dataclass
class StageTime:
    """One stage over many jobs. Times in ms.

    `busy_ms` is what the workers spent: the time of a group is shared among its jobs, so that it counts once.
    """

    stage: str
    waited: list[float] = field(default_factory=list)
    ran: list[float] = field(default_factory=list)
    busy_ms: float = 0.0
    retried: int = 0
    index: int = 0  # in a job's way: an evaluation begins where a generation ends

    def add(self, record: StageRecord, index: int) -> None:
        """Count one run of the stage."""
        self.index = max(self.index, index)
        self.waited.append(record.waited_ms)
        self.ran.append(record.ran_ms)
        self.busy_ms += record.ran_ms / record.group_size
        self.retried += record.attempt > 1

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for `--json`."""
        return {
            "stage": self.stage,
            "jobs": len(self.waited),
            "waited_p50_ms": round(median(self.waited), 1),
            "ran_p50_ms": round(median(self.ran), 1),
            "busy_ms": round(self.busy_ms, 1),
            "retried": self.retried,
        }


class Tally:
    """The sums of receipts that are added one at a time; nothing but numbers is kept of each."""

    def __init__(self, receipts: Iterable[Receipt] = ()) -> None:
        self.statuses: Counter[str] = Counter()
        self.causes: Counter[str] = Counter()  # why jobs died: failure or category, at stage
        self.moderated: Counter[str] = Counter()  # what moderation decided
        self.flagged: Counter[tuple[str, str]] = Counter()  # jobs by action and category: ("redact", "email")
        self.checked = 0  # jobs with a check that says yes or no
        self.failed: Counter[str] = Counter()  # jobs by the check that said no
        self.failing = 0  # jobs of which a check said no
        self.tiers: Counter[str] = Counter()  # where answers came from, of jobs that asked for the cache
        self.saved_tokens = 0
        self.grounded: Counter[str] = Counter()  # of jobs that named a knowledge base: what came of it
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self._stages: dict[str, StageTime] = {}
        for receipt in receipts:
            self.add(receipt)

    def add(self, receipt: Receipt) -> None:
        """Count one."""
        self.statuses[receipt.status] += 1
        event = receipt.event
        if isinstance(event, DeadLetter):
            self.causes[f"{event.failure or event.category} at {event.stage}"] += 1
            return
        if isinstance(event, Result):
            if event.made:
                self.prompt_tokens += event.made.usage.prompt_tokens
                self.completion_tokens += event.made.usage.completion_tokens
            if event.answer and event.answer.grounding:
                self.grounded[_grounded(event.answer, event.answer.grounding)] += 1
            if (made := event.answer or event.decisions) and (recall := made.recall):
                self.tiers[recall.tier.value] += 1
                self.saved_tokens += recall.saved_tokens
            if event.moderation:
                self.moderated[event.moderation.action] += 1
                self.flagged.update((event.moderation.action, cause) for cause in causes(event.moderation))
            found = verdicts(event.judge.scores)
            no = {name for name, holds in found if not holds}
            self.checked += bool(found)
            self.failing += bool(no)
            self.failed.update(no)
        for index, record in enumerate(event.stages):
            self._stages.setdefault(record.stage, StageTime(record.stage)).add(record, index)

    @property
    def jobs(self) -> int:
        """Return how many receipts were counted."""
        return self.statuses.total()

    @property
    def unanswered(self) -> int:
        """Return how many jobs died or were cancelled."""
        return self.statuses["dead"] + self.statuses["cancelled"]

    @property
    def stages(self) -> list[StageTime]:
        """Return the stages in the order in which jobs go through them."""
        return sorted(self._stages.values(), key=lambda stage: stage.index)

    def as_dict(self) -> dict[str, Any]:
        """Return the figures for `--json`."""
        return {
            "jobs": self.jobs,
            "statuses": dict(self.statuses),
            "died_of": dict(self.causes),
            "moderation": dict(self.moderated),
            "checks": {"checked": self.checked, "failing": self.failing, "failed": dict(self.failed)},
            "cache": dict(self.tiers),
            "saved_tokens": self.saved_tokens,
            "knowledge": dict(self.grounded),
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "stages": [stage.as_dict() for stage in self.stages],
        }


def _grounded(answer: Answer, grounding: Grounding) -> str:
    if answer.finish_reason == "abstained":
        return "abstained"
    if not grounding.citations:
        return "without"
    return "cited" if any(citation.cited for citation in grounding.citations) else "uncited"


def rate(count: float, seconds: float) -> float:
    """Return `count` a second; 0 when no time has passed."""
    return count / seconds if seconds > 0 else 0.0


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


MAX_ROWS = 100
COLUMNS: Final = ("line", "answer", "note", "moderation", "checks")
_SHORT: Final = {"note": 24, "moderation": 20, "checks": 20}  # characters


def draw_receipts(receipts: Iterable[Receipt], total: int) -> Rows:
    """Draw the first receipts in the order of their lines; a title says how many there are if not all are shown."""
    shown = sorted(receipts, key=lambda r: r.line or 0)[:MAX_ROWS]
    title = None if total <= len(shown) else f"the first {len(shown)} of {total:,}"
    rows = [_cells(receipt) for receipt in shown]
    kept = [place for place, name in enumerate(COLUMNS) if name != "note" or any(cells[place] for cells in rows)]
    columns = [COLUMNS[place] for place in kept]
    shown_cells = [[cells[place] for place in kept] for cells in rows]
    # Short columns are whole, since the answer is cut anyway; a long list of failed checks is broken between words.
    widest = [max((len(cells[place]) for cells in shown_cells), default=0) for place in range(len(columns))]
    whole = [name for name, width in zip(columns, widest, strict=True) if width <= _SHORT.get(name, 0)]
    uncut = [
        place for place, receipt in enumerate(shown) if not isinstance(receipt.event, Result)
    ]  # the reason is whole
    return table(title, columns, shown_cells, right=("line",), whole=whole, clip=("answer",), uncut=uncut)


def _cells(receipt: Receipt) -> tuple[str, ...]:
    """Return one receipt as cells: the columns of `COLUMNS`, in their order."""
    found, event = row(receipt), receipt.event
    scores = event.judge.scores if isinstance(event, Result) else ()
    if not isinstance(event, Result):
        note = found.ended
    elif event.answer is not None and event.answer.finish_reason == "length":
        note = ", ".join(filter(None, (found.source, "cut at max_tokens")))
    else:
        note = found.source
    return found.job, found.answer, note, found.moderation, "" if receipt.status == "blocked" else checks(scores)


def draw_summary(whole: Tally, this_run: Tally, seconds: float) -> Group:
    """Draw the time that each stage took; then, in sentences, what was done, how fast, and what was flagged and why."""
    from rich.console import Group

    columns = ("stage", "jobs", "waited (median)", "ran (median)", "worked in all", "retried")
    rows = [
        (
            stage.stage,
            f"{len(stage.waited):,}",
            show_ms(median(stage.waited)),
            show_ms(median(stage.ran)),
            show_ms(stage.busy_ms),
            str(stage.retried),
        )
        for stage in whole.stages
    ]
    stages = [table(None, columns, rows, right=columns[1:])] if rows else []
    sentences = (_done(whole), _speed(whole, this_run, seconds), _flagged(whole))
    return Group(*stages, *(Line(sentence) for sentence in sentences if sentence))


def _done(whole: Tally) -> str:
    """Return what became of the jobs, and what their answers rest on."""
    words = {"completed": "completed", "blocked": "blocked by moderation", "dead": "dead", "cancelled": "cancelled"}
    counts = [f"{whole.statuses[name]:,} {word}" for name, word in words.items() if whole.statuses[name]]
    summary = f"{_many(whole.jobs, 'job')}: {', '.join(counts)}" if counts else _many(whole.jobs, "job")
    if whole.causes:
        summary += f" ({'; '.join(f'{cause}: {n:,}' for cause, n in whole.causes.most_common(5))})"
    return "; ".join(filter(None, (summary, _knowledge(whole), _cache(whole)))) + "."


def _speed(whole: Tally, this_run: Tally, seconds: float) -> str:
    """Return how long this run took and what it did in this time; nothing if nothing ended in it."""
    if not this_run.jobs:
        return ""
    part = "" if this_run.jobs == whole.jobs else f" for {_many(this_run.jobs, 'job')} of this run"
    return (
        f"It took {show_ms(seconds * 1000)}{part}, start aside: {rate(this_run.jobs, seconds):,.1f} jobs/s, "
        f"{this_run.prompt_tokens:,} tokens read and {this_run.completion_tokens:,} written, "
        f"{rate(this_run.completion_tokens, seconds):,.0f} tokens/s."
    )


def _flagged(whole: Tally) -> str:
    """Return what moderation changed or withheld and why, and which checks failed."""
    words_of = {"redact": "redacted", "flag": "flagged", "block": "withheld"}
    acted = [
        f"{words} {whole.moderated[action]:,} ({_causes(whole, action)})"
        for action, words in words_of.items()
        if whole.moderated[action]
    ]
    parts = []
    if acted:
        parts.append(f"Moderation {', '.join(acted)}")
    elif whole.moderated:
        parts.append("Moderation changed nothing")
    if whole.failing:
        causes = _counted(whole.failed.most_common(5))
        parts.append(f"{whole.failing:,} of {_many(whole.checked, 'checked answer')} failed a check ({causes})")
    elif whole.checked:
        parts.append(f"all {_many(whole.checked, 'checked answer')} passed")
    return "; ".join(parts) + "." if parts else ""


def _causes(whole: Tally, action: str) -> str:
    """Return the categories for which moderation did this, the most frequent first."""
    found = [(category, n) for (did, category), n in whole.flagged.items() if did == action]
    return _counted(sorted(found, key=lambda each: (-each[1], each[0])))


def _counted(found: Sequence[tuple[str, int]]) -> str:
    """Return names with their counts; a name that stands alone needs none."""
    return found[0][0] if len(found) == 1 else ", ".join(f"{name} {n:,}" for name, n in found)


def _many(count: int, name: str) -> str:
    return f"{count:,} {name}{'' if count == 1 else 's'}"


def _cache(whole: Tally) -> str:
    """Return how many answers came from the cache, if any job asked for it."""
    if not whole.tiers:
        return ""
    found = {name: n for name, n in sorted(whole.tiers.items()) if name != CacheTier.NONE}
    if not found:
        return "none came from the cache"
    tiers = ", ".join(f"{n:,} {name}" for name, n in found.items())
    return f"{sum(found.values()):,} came from the cache ({tiers}) and saved {whole.saved_tokens:,} tokens"


def _knowledge(whole: Tally) -> str:
    """Return what answers rest on, if any job named a knowledge base."""
    words_of = {
        "cited": "cite their passages", "uncited": "have passages and cite none", "without": "were made without",
        "abstained": "abstained because nothing relevant was found",
    }  # fmt: skip
    return ", ".join(f"{whole.grounded[name]:,} {words}" for name, words in words_of.items() if whole.grounded[name])


def summary_dict(whole: Tally, this_run: Tally, seconds: float, startup: float) -> dict[str, Any]:
    """Return the summary for `--json`."""
    return {
        **whole.as_dict(),
        "this_run": {
            "jobs": this_run.jobs,
            "seconds": round(seconds, 3),
            "startup_seconds": round(startup, 3),
            "completion_tokens": this_run.completion_tokens,
            "tokens_per_second": round(rate(this_run.completion_tokens, seconds), 1),
            "jobs_per_second": round(rate(this_run.jobs, seconds), 2),
        },
    }
