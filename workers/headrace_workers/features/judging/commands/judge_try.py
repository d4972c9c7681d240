"""`headrace judge try`: what a criterion would have said of outputs that were judged before."""

from collections.abc import Iterator
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from headrace_producers.settings import ProducerSettings
from headrace_schemas import Cosine, Grounded, Pairwise, Rubric
from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.connections import need_ledger
from headrace_workers.cli.durations import milliseconds, parse_time
from headrace_workers.cli.options import OneJsonOption, limit_option
from headrace_workers.cli.output import console, put_json, say, table
from headrace_workers.runtime.settings import ModelSettings, home_of

if TYPE_CHECKING:
    from headrace_schemas import Criterion
    from headrace_workers.core.ledger.ledger import Ledger
    from headrace_workers.core.ports import Generator
    from headrace_workers.features.judging.criterion_trial import Past, Trial
    from headrace_workers.features.moderation.store.moderated import ModeratedJobs, Span

_SHOWN: Final = 60  # characters of an output


class On(StrEnum):
    """The outputs to judge: answers, or the outputs of evaluation jobs."""

    OUTPUTS = "outputs"
    EVALUATIONS = "evaluations"


def try_criterion(
    file: Annotated[Path, typer.Argument(metavar="CRITERION.toml", help="a criterion, in TOML", dir_okay=False)],
    on: Annotated[On, typer.Option("--on", help="answers, or the outputs of evaluation jobs")] = On.OUTPUTS,
    since: Annotated[
        str, typer.Option("--since", help="only jobs that ended since: 10m, 2h, 3d, or an ISO 8601 time")
    ] = "7d",
    tenant: Annotated[str | None, typer.Option("--tenant", help="only jobs of this tenant")] = None,
    against: Annotated[
        str | None,
        typer.Option("--against", help="the earlier criterion to compare with; by default the one of the same name"),
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="the judge [the criterion's, else HEADRACE_JUDGE_MODEL]")
    ] = None,
    examples: Annotated[int, typer.Option("--examples", min=0, max=1_000, help="the largest changes to show")] = 10,
    limit: Annotated[int, limit_option("the number of outputs, newest first")] = 1_000,
    here: Annotated[
        bool, typer.Option("--here", help="load the model into this process instead of using the deployment")
    ] = False,
    as_json: OneJsonOption = False,
) -> None:
    """Judge outputs in the ledger by a criterion, and show the new scores beside the earlier ones.

    If the criterion needs a model or an embedder, the running deployment judges: each output is an evaluation job of
    its tenant in the batch lane. Interrupted, the command cancels its unfinished jobs; called again, it starts over.
    Any other criterion is judged in this process, and nothing changes. `grounded` cannot be tried.

    Example: `headrace judge try polite.toml --on outputs --since 7d`
    """
    from headrace_workers.features.judging.criterion_file import read_criterion
    from headrace_workers.features.judging.criterion_trial import KINDS, Trial
    from headrace_workers.features.moderation.store.moderated import ModeratedJobs, Span

    criterion = read_criterion(file)
    if isinstance(criterion, Grounded):
        raise ConfigurationError(f"{file}: grounded cannot be tried: it has no options that change its value")
    ledger = need_ledger()
    jobs, now = ledger.of(ModeratedJobs), ledger.now()
    begin = milliseconds(parse_time(since, datetime.fromtimestamp(now / 1000, UTC)))
    span, kind, trial = Span(begin, now + 1, tenant), KINDS[on.value], Trial(examples)
    total = min(limit, jobs.count(span, kind))
    called = against or criterion.key
    past = _past(jobs, span, kind, limit, called)
    asks = isinstance(criterion, Rubric | Pairwise | Cosine)
    if asks and not here:
        _ask_deployment(past, total, criterion, model, trial)
    elif isinstance(criterion, Cosine):
        raise ConfigurationError(f"{file}: cosine needs the deployment's embedder: leave --here out")
    else:
        _ask_here(ledger, past, total, criterion, model, trial)
    if as_json:
        put_json(_document(trial, criterion, called))
    else:
        _show(trial, file, called, since)


def _ask_deployment(
    past: "Iterator[Past]", total: int, criterion: "Criterion", model: str | None, trial: "Trial"
) -> None:
    """Let those judge who hold the model anyhow."""
    from headrace_workers.features.generation.commands.serving import need_models
    from headrace_workers.features.judging.commands.judge_queue import judge_by_queue, need_deployment
    from headrace_workers.features.judging.criterion_trial import asked_by

    need_deployment()
    if not total:
        return
    alias = None if isinstance(criterion, Cosine) else _alias(criterion, model)
    need_models([] if alias is None else [alias])
    by = "the embedder" if alias is None else alias
    say(f"{total:,} outputs at most become evaluation jobs of the batch lane, judged by {by} of the deployment")
    judge_by_queue(past, asked_by(criterion, alias), trial)


def _ask_here(
    ledger: "Ledger", past: "Iterator[Past]", total: int, criterion: "Criterion", model: str | None, trial: "Trial"
) -> None:
    """Judge in this process, with a copy of the weights where a model is asked."""
    from headrace_workers.features.judging.criterion_trial import tried

    generator: Generator | None = None
    if total and isinstance(criterion, Rubric | Pairwise):
        from headrace_workers.features.generation.engines.load_generator import load_generator
        from headrace_workers.features.providers.boundary import bounded

        generator = bounded(load_generator(home_of(), _alias(criterion, model)), ledger)
    with console().status(f"judging {total:,} outputs") as status:
        done = 0
        for count in tried(past, criterion, generator, trial):
            done += count
            status.update(f"judging: {done:,} of {total:,} outputs")


def _alias(criterion: "Criterion", model: str | None) -> str:
    """Return the model that answers."""
    named: str | None = getattr(criterion, "model", None)
    return model or named or ModelSettings.from_env().judge_model or ProducerSettings.from_env().model


def _past(jobs: "ModeratedJobs", span: "Span", kind: str, limit: int, called: str) -> "Iterator[Past]":
    from headrace_workers.features.judging.criterion_trial import past_of

    for row in jobs.ended(span, kind, limit):
        if (past := past_of(row.id, kind, bytes(row.payload), bytes(row.terminal), called)) is not None:
            yield past


def _document(trial: "Trial", criterion: "Criterion", called: str) -> dict[str, Any]:
    from headrace_workers.features.quality.estimates import Undefined

    drift, mean = trial.drift, trial.mean
    document: dict[str, Any] = {
        "criterion": criterion.key, "version": criterion.version, "against": called, "tried": trial.tried,
        "judged_both_times": len(trial.now), "only_before": trial.alone_before, "only_now": trial.alone_now,
        "turned_to_yes": trial.to_yes, "turned_to_no": trial.to_no,
        "not_judged_before": dict(trial.not_judged_before), "not_judged_now": dict(trial.not_judged_now),
        "reasons": trial.reasons, "moved": [each._asdict() for each in trial.moved],
        "mean": None, "mean_low": None, "mean_high": None,
    }  # fmt: skip
    if not isinstance(mean, Undefined):
        document |= {"mean": mean.value, "mean_low": mean.interval.low, "mean_high": mean.interval.high}
    if isinstance(drift, Undefined):
        return {**document, "drift": None, "reason": drift.reason}
    return {**document, "drift": drift.difference, "low": drift.interval.low, "high": drift.interval.high}


def _show(trial: "Trial", file: Path, called: str, since: str) -> None:
    from headrace_workers.features.quality.estimates import Undefined

    if not trial.tried:
        say(f"there is no output since {since} that could be judged")
        return
    out = console(data=True)
    if trial.moved:
        rows = [
            (each.job_id, f"{each.before:.2f}", f"{each.now:.2f}", f"{each.now - each.before:+.2f}",
             " ".join(each.output[: _SHOWN * 4].split())[:_SHOWN])
            for each in trial.moved
        ]  # fmt: skip
        columns = ("job", "was", "would be", "change", "output")
        out.print(table("the largest changes", columns, rows, right=columns[1:4], whole=("job",)))
    codes = sorted(trial.not_judged_before.keys() | trial.not_judged_now.keys())
    if codes:
        counts = [
            (
                code,
                f"{trial.not_judged_before[code]:,}",
                f"{trial.not_judged_now[code]:,}",
                trial.reasons.get(code, "–"),
            )
            for code in codes
        ]
        out.print(table("not judged", ("because", "was", "would be", "such as"), counts, right=("was", "would be")))
    drift, mean = trial.drift, trial.mean
    if not isinstance(mean, Undefined):
        say(f"mean score {mean.value:.3f} ({mean.interval.low:.3f} to {mean.interval.high:.3f}) of {mean.n:,} outputs")
    if isinstance(drift, Undefined):
        say(f"{trial.tried:,} outputs were judged, none of which {called} judged before: there is nothing to compare")
        return
    low, high = drift.interval.low, drift.interval.high
    moved = f"{drift.difference:+.3f} ({low:+.3f} to {high:+.3f})"
    say(f"{file}: scores moved by {moved} in the mean of {len(trial.now):,} outputs that were judged both times")
    say(f"turned to yes: {trial.to_yes:,}; turned to no: {trial.to_no:,}")
