"""`headrace judge`: how far a model may be trusted as a judge, and what another criterion would say."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any, Final
from uuid import uuid4

import typer

from headrace_producers.settings import ProducerSettings
from headrace_schemas import Cosine, Criterion, EvaluationJob, Grounded, NotJudged, Pairwise, Result, Rubric, Score
from headrace_schemas.codec import encode_value
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import MAX_VALUE_BYTES
from headrace_workers.cli.connections import need_ledger, running
from headrace_workers.cli.durations import milliseconds, parse_time
from headrace_workers.cli.jobfile import JobFile
from headrace_workers.cli.options import OneJsonOption, limit_option
from headrace_workers.cli.output import console, put_json, say, table
from headrace_workers.cli.receipts import Receipt
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.batches.commands.batch_files import deployment
from headrace_workers.features.batches.commands.receipt_file import ReceiptFile, read_receipts
from headrace_workers.features.batches.commands.run import ByContent
from headrace_workers.features.batches.commands.run_jobs import TRIAL, ThisRun, carry
from headrace_workers.features.cache.commands.bench import progress, tell_quality
from headrace_workers.features.cache.commands.labelled_questions import read_pairs
from headrace_workers.features.generation.commands.serving import ends_on_sigterm, need_models
from headrace_workers.features.generation.parts import bounded
from headrace_workers.features.judging.criterion_trial import (
    KINDS,
    Past,
    Trial,
    asked_by,
    past_of,
    read_criterion,
    tried,
)
from headrace_workers.features.judging.groundedness.claim_quality import measure_claims
from headrace_workers.features.judging.judge_probe import Measure, Probe
from headrace_workers.features.judging.judge_probe import probe as ask
from headrace_workers.features.judging.scores import Subject
from headrace_workers.features.knowledge.commands import embedder_here
from headrace_workers.features.knowledge.load_verifier import load_verifier_here
from headrace_workers.features.moderation.store import ModeratedJobs, Span
from headrace_workers.models.engines.load_generator import load_generator
from headrace_workers.models.generator import Generator
from headrace_workers.models.verifiers.measured import judge_fault, note_probe
from headrace_workers.runtime.settings import ModelSettings, home_of, names_a_deployment
from headrace_workers.stats.estimates import Undefined

_EVIDENCE: Final = ("evidence", "context", "premise")
_CLAIM: Final = ("claim", "sentence", "hypothesis")
_SUPPORTED: Final = ("supported", "label")


def groundedness(
    file: Annotated[Path, typer.Argument(metavar="FILE", help="sentences with labels, as JSON lines")],
    verify: Annotated[
        str | None, typer.Option("--verify", metavar="MODEL", help="measure this verifier instead of the rules")
    ] = None,
    as_json: OneJsonOption = False,
) -> None:
    """Show how well the rules of `grounded`, or a verifier, tell supported sentences from others.

    A line is `{"evidence": …, "claim": …, "supported": true}`. No ledger is needed.

    With --verify, a model is asked about each sentence, as HEADRACE_GROUNDED_VERIFY would ask it. Exit code 1: the
    sentences do not show that it is better than chance. Workers with this home then refuse it.

    Example: `headrace bench groundedness claims.jsonl --verify sentence-transformers:./my-nli-model`
    """
    claims = read_pairs(file, _EVIDENCE, _CLAIM, _SUPPORTED)
    verifier = None if verify is None else load_verifier_here(home_of(), verify)
    with progress("verifying", len(claims)) as advance:
        try:
            quality = measure_claims(verifier, claims, embedder_here(), advance)
        except ValueError as error:
            raise ConfigurationError(str(error)) from None
    if verify is not None:
        tell_quality(home_of(), verify, quality, as_json)
    if as_json:
        put_json({**asdict(quality), "is_chance": quality.is_chance})
    else:
        say(quality.sentence)


_JOBS, _RECEIPTS = "jobs.jsonl", "receipts.jsonl"
_TRIAL: Final = "judge try"
_TRIED: Final = "tried"  # in a job's metadata: the job whose output it is about
Said = tuple[str, float | None, str | None]  # of an output: its job, and the value or code of before


def need_deployment() -> None:
    """Raise ConfigurationError if no deployment runs that could judge."""
    if running() is None and not names_a_deployment():
        raise ConfigurationError(
            "no deployment is running: start `headrace up`, or set HEADRACE_KAFKA and HEADRACE_LEDGER; "
            "--here loads the model into this process"
        )


def judge_by_queue(found: Iterable[Past], criterion: Criterion, trial: Trial) -> None:
    """Let the deployment judge all outputs by this criterion as jobs of their tenants, and count the scores. Each call
    starts over; if it is interrupted, unfinished jobs are cancelled.
    """
    call = f"{_TRIAL} {uuid4()}"
    _tell_of_others()
    with ends_on_sigterm(), tempfile.TemporaryDirectory(prefix="headrace-") as folder:
        path, said = Path(folder) / _JOBS, list[Said]()
        with path.open("wb") as file:
            file.writelines(_lines(found, criterion, said))
        with path.open("rb") as stream, ReceiptFile(Path(folder) / _RECEIPTS) as receipts:
            jobs = JobFile(stream, "the outputs", Defaults(""), ByContent(call))
            entries = jobs.check()
            if entries:
                carry(
                    jobs, list(jobs.models), entries, entries, call, receipts, ThisRun(), start=False,
                    engine_threads=None, trial=_TRIAL,
                )  # fmt: skip
            by_line = {entry.line: entry for entry in entries}
            for receipt in read_receipts(receipts.path):
                entry = by_line[receipt.line or 0]
                trial.note(_past_judged(jobs, entry, said[entry.line - 1]), _score(receipt, criterion))


def _tell_of_others() -> None:
    """Name what an earlier call has left at work: one that was killed could cancel nothing."""
    with deployment() as here:
        for batch in here.batches.unfinished():
            if batch.cancelling_at is None and json.loads(batch.metadata).get(TRIAL) == _TRIAL:
                say(
                    f"another `headrace {_TRIAL}` runs, or was killed: `headrace batch cancel {batch.id}` ends its jobs"
                )


def _lines(found: Iterable[Past], criterion: Criterion, said: list[Said]) -> Iterator[bytes]:
    """Yield the jobs as lines; append the earlier scores of each to `said`, in the same order."""
    for past in found:
        subject = past.subject
        job = EvaluationJob(
            tenant=past.tenant,
            lane="batch",
            input=subject.question,
            output=subject.output or "",
            context=subject.context,
            reference=subject.reference,
            other=subject.other,
            criteria=(criterion,),
            metadata={_TRIED: past.job_id},
        )
        value = encode_value(job)
        if len(value) > MAX_VALUE_BYTES:  # with a context that the criterion does not look at, say
            continue
        said.append((past.job_id, past.value, past.not_judged))
        yield b'{"kind":"evaluation",' + value[1:] + b"\n"


def _past_judged(jobs: JobFile, entry: Any, said: Said) -> Past:
    """Return an output and its scores from its record."""
    job, _ = jobs.read(entry)
    assert isinstance(job, EvaluationJob)  # noqa: S101 - written above
    job_id, value, not_judged = said
    return Past(job_id, job.tenant, Subject(job.output, ()), value, not_judged)


def _score(receipt: Receipt, criterion: Criterion) -> Score:
    """Return the score; a job that died has no score, with the reason."""
    event = receipt.event
    if isinstance(event, Result) and event.judge is not None and event.judge.scores:
        return event.judge.scores[0]
    reason = str(getattr(event, "reason", "") or "its job came to no verdict")[:1_000]
    return Score(criterion=criterion.criterion, not_judged=NotJudged.FAILED, reason=reason)


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
    criterion = read_criterion(file)
    if isinstance(criterion, Grounded):
        raise ConfigurationError(f"{file}: grounded cannot be tried: it has no options that change its value")
    ledger = need_ledger()
    jobs, now = ledger.of(ModeratedJobs), ledger.now()
    begin = milliseconds(parse_time(since, datetime.fromtimestamp(now / 1000, UTC)))
    span, kind, trial = Span(begin, now + 1, tenant), KINDS[on.value], Trial(examples)
    total = min(limit, jobs.count(span, kind))
    called = against or criterion.key
    past = _past_outputs(jobs, span, kind, limit, called)
    asks = isinstance(criterion, Rubric | Pairwise | Cosine)
    if asks and not here:
        _ask_deployment(past, total, criterion, model, trial)
    elif isinstance(criterion, Cosine):
        raise ConfigurationError(f"{file}: cosine needs the deployment's embedder: leave --here out")
    else:
        _ask_here(ledger, past, total, criterion, model, trial)
    if as_json:
        put_json(_trial_document(trial, criterion, called))
    else:
        _show_trial(trial, file, called, since)


def _ask_deployment(past: Iterator[Past], total: int, criterion: Criterion, model: str | None, trial: Trial) -> None:
    """Let those judge who hold the model anyhow."""
    need_deployment()
    if not total:
        return
    alias = None if isinstance(criterion, Cosine) else _alias(criterion, model)
    need_models([] if alias is None else [alias])
    by = "the embedder" if alias is None else alias
    say(f"{total:,} outputs at most become evaluation jobs of the batch lane, judged by {by} of the deployment")
    judge_by_queue(past, asked_by(criterion, alias), trial)


def _ask_here(
    ledger: Ledger, past: Iterator[Past], total: int, criterion: Criterion, model: str | None, trial: Trial
) -> None:
    """Judge in this process, with a copy of the weights where a model is asked."""
    generator: Generator | None = None
    fault: str | None = None
    if total and isinstance(criterion, Rubric | Pairwise):
        generator = bounded(load_generator(home_of(), _alias(criterion, model)), ledger)
        if not ModelSettings.from_env().accept_untrusted:
            fault = judge_fault(home_of(), generator.alias)
    with console().status(f"judging {total:,} outputs") as status:
        done = 0
        for count in tried(past, criterion, generator, trial, fault):
            done += count
            status.update(f"judging: {done:,} of {total:,} outputs")


def _alias(criterion: Criterion, model: str | None) -> str:
    """Return the model that answers."""
    named: str | None = getattr(criterion, "model", None)
    return model or named or ModelSettings.from_env().judge_model or ProducerSettings.from_env().model


def _past_outputs(jobs: ModeratedJobs, span: Span, kind: str, limit: int, called: str) -> Iterator[Past]:
    for row in jobs.ended(span, kind, limit):
        if (past := past_of(row.id, kind, bytes(row.payload), bytes(row.terminal), called)) is not None:
            yield past


def _trial_document(trial: Trial, criterion: Criterion, called: str) -> dict[str, Any]:
    drift, mean = trial.drift, trial.mean
    document: dict[str, Any] = {
        "criterion": criterion.key, "version": criterion.version, "against": called, "tried": trial.tried,
        "judged_both_times": len(trial.now), "only_before": trial.alone_before, "only_now": trial.alone_now,
        "turned_to_yes": trial.to_yes, "turned_to_no": trial.to_no,
        "not_judged_before": dict(trial.not_judged_before), "not_judged_now": dict(trial.not_judged_now),
        "reasons": trial.reasons, "moved": [turned._asdict() for turned in trial.moved],
        "mean": None, "mean_low": None, "mean_high": None,
    }  # fmt: skip
    if not isinstance(mean, Undefined):
        document |= {"mean": mean.value, "mean_low": mean.interval.low, "mean_high": mean.interval.high}
    if isinstance(drift, Undefined):
        return {**document, "drift": None, "reason": drift.reason}
    return {**document, "drift": drift.difference, "low": drift.interval.low, "high": drift.interval.high}


def _show_trial(trial: Trial, file: Path, called: str, since: str) -> None:
    if not trial.tried:
        say(f"there is no output since {since} that could be judged")
        return
    out = console(data=True)
    if trial.moved:
        rows = [
            (turned.job_id, f"{turned.before:.2f}", f"{turned.now:.2f}", f"{turned.now - turned.before:+.2f}",
             " ".join(turned.output[: _SHOWN * 4].split())[:_SHOWN])
            for turned in trial.moved
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


def probe(
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="the judge [HEADRACE_JUDGE_MODEL, else HEADRACE_MODEL]")
    ] = None,
    as_json: OneJsonOption = False,
) -> None:
    """Ask a model 24 plain questions for judges, and show what else changes its verdicts.

    Each item is asked in both orders, with padding, beside the model's own answer, on both scales, and once more alone.
    No service is needed.

    A model that fails gives no scores to workers with this home, unless HEADRACE_ACCEPT_UNTRUSTED is true.

    The probe can show that a judge is useless. Only your own labels show that a judge is good (`headrace quality`).

    Example: `headrace bench judge --model smollm2-135m-instruct`
    """
    alias = model or ModelSettings.from_env().judge_model or ProducerSettings.from_env().model
    generator = load_generator(home_of(), alias, needs_logprobs=True)
    with console().status(f"asking {alias}"):
        found = ask(generator)
    note_probe(home_of(), alias, _fault(found))
    if as_json:
        put_json(_probe_document(alias, found))
    else:
        _show_probe(alias, found)


def _show_probe(alias: str, found: Probe) -> None:
    rows = [(measure.name, *_cells(measure), _holds(measure)) for measure in found.measures]
    columns = ("of its verdicts", "share", "interval", "wanted", "")
    console(data=True).print(table(None, columns, rows, right=("share",)))
    mass = "none" if found.mass is None else f"{found.mass:.2f}"
    say(f"{alias}: {found.asked - found.unanswered} of {found.asked} questions answered, median mass {mass}")
    say(_words(found))


def _cells(each: Measure) -> tuple[str, str, str]:
    wanted = "" if each.more_is_better is None else "≥ " if each.more_is_better else "≤ "
    if isinstance(each.found, Undefined):
        return "–", each.found.reason, f"{wanted}{each.bound:g}"
    interval = each.found.interval
    return f"{each.found.value:.2f}", f"{interval.low:.2f} to {interval.high:.2f}", f"{wanted}{each.bound:g}"


def _holds(each: Measure) -> str:
    return {True: "yes", False: "no", None: "cannot tell" if each.more_is_better is not None else "no sign"}[each.holds]


def _words(found: Probe) -> str:
    """Return advice in a sentence."""
    return _fault(found) or "nothing here speaks against it; label answers of your own before a decision hangs on it"


def _fault(found: Probe) -> str | None:
    """Return why a model is no judge; None if nothing speaks against it."""
    missed = [measure.name for measure in found.measures if measure.holds is False]
    if found.unanswered * 2 > found.asked:
        why = "" if found.trouble is None else f" (the first of its errors: {found.trouble})"
        return f"it mostly does not answer in the permitted words: no judge{why}; probe another with --model"
    if missed:
        return f"not to be trusted with: {'; '.join(missed)}"
    return None


def _probe_document(alias: str, found: Probe) -> dict[str, object]:
    from dataclasses import asdict

    measures = [{**asdict(measure), "holds": measure.holds} for measure in found.measures]
    return {
        "model": alias, "asked": found.asked, "unanswered": found.unanswered, "median_mass": found.mass,
        "trouble": found.trouble, "measures": measures, "says": _words(found),
    }  # fmt: skip
