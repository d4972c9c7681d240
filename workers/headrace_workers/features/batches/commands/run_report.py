"""The report of a run: a table of receipts and a summary."""

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from headrace_schemas.recall import CacheTier
from headrace_workers.cli.durations import show_ms
from headrace_workers.cli.layout import Rows
from headrace_workers.cli.output import table
from headrace_workers.cli.receipt_lines import Receipt
from headrace_workers.cli.tables import row, table_of, whole
from headrace_workers.features.batches.commands.run_summary import Tally, rate

if TYPE_CHECKING:
    from rich.console import Group

MAX_ROWS = 100


def draw_receipts(receipts: Iterable[Receipt], total: int) -> Rows:
    """Draw the first receipts in the order of their lines; the title says how many there are."""
    shown = sorted(receipts, key=lambda r: r.line or 0)[:MAX_ROWS]
    columns, rows = table_of(drawn := [row(receipt) for receipt in shown])
    told = [] if total <= len(shown) else [f"the first {len(shown)} of {total:,}"]
    told += (
        ["criteria: what the checks of each job say of the model's answer"] if any(r.criteria for r in drawn) else []
    )
    title = "; ".join(told) or None
    return table(title, columns, rows, right=("tokens", "ms"), whole=whole(drawn), clip=("answer",))


def draw_summary(whole: Tally, this_run: Tally, seconds: float) -> "Group":
    """Draw the counts of the whole file, the speed of this run, and the time that each stage took."""
    from rich.console import Group

    counts = [f"{whole.statuses[name]:,} {name}" for name in ("completed", "blocked", "dead", "cancelled")
              if whole.statuses[name]]  # fmt: skip
    facts = [
        ("jobs", f"{whole.jobs:,}" + (f" ({', '.join(counts)})" if counts else "")),
        ("moderation", ", ".join(f"{n:,} {action}" for action, n in sorted(whole.moderated.items()))),
        ("cache", _cache(whole)),
        ("knowledge", _knowledge(whole)),
        ("died of", "; ".join(f"{cause}: {n:,}" for cause, n in whole.causes.most_common(5))),
        ("tokens", f"{whole.prompt_tokens:,} read, {whole.completion_tokens:,} written"),
    ]
    if this_run.jobs:
        speed = f"{rate(this_run.completion_tokens, seconds):,.0f} tokens/s, {rate(this_run.jobs, seconds):,.1f} jobs/s"
        part = "" if this_run.jobs == whole.jobs else f"{this_run.jobs:,} jobs in this run: "
        facts.append(("time", f"{part}{seconds:.1f} s, {speed}"))
    stages = table(
        None,
        ("stage", "jobs", "waited (median)", "ran (median)", "worked in all", "retried"),
        [
            (
                s.stage,
                f"{s.jobs:,}",
                show_ms(s.waited_p50_ms),
                show_ms(s.ran_p50_ms),
                show_ms(s.busy_ms),
                str(s.retried),
            )
            for s in whole.stages
        ],
        right=("jobs", "waited (median)", "ran (median)", "worked in all", "retried"),
    )
    summary = table(None, ("summary", ""), [fact for fact in facts if fact[1]])
    return Group(summary, *([stages] if whole.stages else []))


def _cache(whole: Tally) -> str:
    """Yield where answers came from, if any job asked for the cache."""
    if not whole.tiers:
        return ""
    tiers = ", ".join(f"{n:,} {'made' if tier == CacheTier.NONE else tier}" for tier, n in sorted(whole.tiers.items()))
    return f"{tiers}; {whole.saved_tokens:,} tokens saved"


def _knowledge(whole: Tally) -> str:
    """Yield what answers rest on, if any job named a knowledge base."""
    said = {
        "cited": "cite their passages", "uncited": "have passages and cite none", "without": "made without",
        "abstained": "abstained",
    }  # fmt: skip
    return ", ".join(f"{whole.grounded[name]:,} {words}" for name, words in said.items() if whole.grounded[name])


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
