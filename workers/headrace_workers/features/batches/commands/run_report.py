"""The report of a run: a table of receipts and a summary."""

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from headrace_schemas import Result
from headrace_schemas.recall import CacheTier
from headrace_workers.cli.durations import show_ms
from headrace_workers.cli.layout import Line, Rows
from headrace_workers.cli.output import table
from headrace_workers.cli.receipt_lines import Receipt
from headrace_workers.cli.tables import checks, row
from headrace_workers.features.batches.commands.run_summary import Tally, rate

if TYPE_CHECKING:
    from rich.console import Group

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


def draw_summary(whole: Tally, this_run: Tally, seconds: float) -> "Group":
    """Draw the time that each stage took; then, in sentences, what was done, how fast, and what was flagged and why."""
    from rich.console import Group

    columns = ("stage", "jobs", "waited (median)", "ran (median)", "worked in all", "retried")
    rows = [
        (s.stage, f"{s.jobs:,}", show_ms(s.waited_p50_ms), show_ms(s.ran_p50_ms), show_ms(s.busy_ms), str(s.retried))
        for s in whole.stages
    ]
    stages = [table(None, columns, rows, right=columns[1:])] if rows else []
    sentences = (_done(whole), _speed(whole, this_run, seconds), _flagged(whole))
    return Group(*stages, *(Line(each) for each in sentences if each))


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
