"""`headrace moderation try`: compares a policy with what moderation did earlier."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.durations import milliseconds, parse_time
from headrace_workers.cli.options import OneJsonOption, limit_option
from headrace_workers.cli.output import console, put_json, say, table
from headrace_workers.features.moderation.commands.aids import aids_here

if TYPE_CHECKING:
    from collections.abc import Callable

    from headrace_workers.features.moderation.policy_trial import Past, Trial
    from headrace_workers.features.moderation.store.moderated import ModeratedJobs, Span


class On(StrEnum):
    """The texts to moderate: answers, or the texts of moderation jobs."""

    OUTPUTS = "outputs"
    TEXTS = "texts"


def try_policy(
    policy: Annotated[Path, typer.Argument(help="a policy, in TOML", dir_okay=False)],
    on: Annotated[On, typer.Option("--on", help="answers, or the texts of moderation jobs")] = On.OUTPUTS,
    since: Annotated[
        str, typer.Option("--since", help="only jobs that ended since: 10m, 2h, 3d, or an ISO 8601 time")
    ] = "7d",
    tenant: Annotated[str | None, typer.Option("--tenant", help="only jobs of this tenant")] = None,
    examples: Annotated[
        int, typer.Option("--examples", min=0, max=1_000, help="the number of jobs to name for each change")
    ] = 5,
    limit: Annotated[int, limit_option("the number of jobs, newest first")] = 10_000,
    as_json: OneJsonOption = False,
) -> None:
    """Compare a policy with what moderation did with texts in the ledger. Nothing is changed.

    The ledger does not keep the original of an answer that was redacted or blocked: such answers are counted, but not
    moderated. Moderation jobs keep their texts, so these are moderated in any case.

    Example: `headrace moderation try new.toml --on outputs --since 7d`
    """
    from headrace_workers.features.moderation.moderator import build_moderator
    from headrace_workers.features.moderation.policy_trial import KINDS, Trial, tried
    from headrace_workers.features.moderation.store.moderated import ModeratedJobs, Span

    moderator = build_moderator(policy, aids_here())
    ledger = need_ledger()
    jobs, now = ledger.of(ModeratedJobs), ledger.now()
    begin = milliseconds(parse_time(since, datetime.fromtimestamp(now / 1000, UTC)))
    span, kind, trial = Span(begin, now + 1, tenant), KINDS[on.value], Trial(examples)
    with _bar(min(limit, jobs.count(span, kind))) as looked:
        for _ in tried(_past(jobs, span, kind, limit, looked), moderator, trial):
            pass
    if as_json:
        put_json(_document(trial))
    else:
        _show(trial, policy, since)


def _past(jobs: "ModeratedJobs", span: "Span", kind: str, limit: int, looked: "Callable[[], None]") -> Iterator["Past"]:
    from headrace_workers.features.moderation.policy_trial import past_of

    for row in jobs.ended(span, kind, limit):
        looked()
        if (past := past_of(row.id, row.tenant, bytes(row.payload), bytes(row.terminal))) is not None:
            yield past


@contextmanager
def _bar(total: int) -> Iterator["Callable[[], None]"]:
    """Show a bar on a terminal. Call the function that it yields for each job."""
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
    with Progress(*columns, console=console(), transient=True) as bar:
        task = bar.add_task("looking at", total=total)
        yield lambda: bar.advance(task)


def _document(trial: "Trial") -> dict[str, Any]:
    return {
        "tried": trial.tried,
        "changed": trial.changed,
        "not_there": dict(trial.gone),
        "actions": [
            {"before": before, "now": now, "count": count, "examples": trial.examples.get((before, now), [])}
            for (before, now), count in sorted(trial.moves.items())
        ],
        "categories": {
            name: {"before": trial.objected_before[name], "now": trial.objected_now[name]}
            for name in _categories(trial)
        },
    }


def _show(trial: "Trial", policy: Path, since: str) -> None:
    out = console(data=True)
    if trial.moves:
        rows = [
            (before, now, f"{count:,}", f"{count / trial.tried:.1%}", ", ".join(trial.examples.get((before, now), [])))
            for (before, now), count in sorted(trial.moves.items())
        ]
        columns = ("was", "would be", "texts", "share", "such as")
        out.print(table(None, columns, rows, right=("texts", "share")))
    if names := _categories(trial):
        counts = [(name, f"{trial.objected_before[name]:,}", f"{trial.objected_now[name]:,}") for name in names]
        out.print(table("objected to", ("category", "before", "now"), counts, right=("before", "now")))
    if gone := trial.gone.total():
        which = ", ".join(f"{count:,} of action {action}" for action, count in sorted(trial.gone.items()))
        say(f"not moderated, since their originals are not kept: {gone:,} ({which})")
    if not trial.tried:
        say(f"there is no text since {since} that could be moderated")
        return
    say(f"{policy} would change the outcome of {trial.changed:,} of {trial.tried:,}; nothing was changed")


def _categories(trial: "Trial") -> list[str]:
    return sorted(trial.objected_before.keys() | trial.objected_now.keys())
