"""The outputs of `headrace judge try`, judged by the deployment that runs: evaluation jobs of the batch lane."""

import json
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from uuid import uuid4

from headrace_schemas import Criterion, EvaluationJob, NotJudged, Result, Score
from headrace_schemas.codec import encode_value
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import MAX_VALUE_BYTES
from headrace_workers.cli.connections import running
from headrace_workers.cli.output import say
from headrace_workers.runtime.settings import names_a_deployment

if TYPE_CHECKING:
    from headrace_workers.cli.jobfile import JobFile
    from headrace_workers.cli.receipt_lines import Receipt
    from headrace_workers.features.judging.criterion_trial import Past, Trial

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


def judge_by_queue(found: Iterable["Past"], criterion: Criterion, trial: "Trial") -> None:
    """Let the deployment judge all outputs by this criterion, and count the scores.

    Each call starts over; if it is interrupted, unfinished jobs are cancelled. Jobs belong to the tenants of their
    outputs. Texts are kept on the disk, not in memory.
    """
    from headrace_workers.cli.jobfile import JobFile
    from headrace_workers.core.job_defaults import Defaults
    from headrace_workers.features.batches.commands.receipt_file import ReceiptFile, read_receipts
    from headrace_workers.features.batches.commands.run import ByContent
    from headrace_workers.features.batches.commands.run_jobs import ThisRun, carry
    from headrace_workers.features.generation.commands.serving import ends_on_sigterm

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
                trial.note(_past(jobs, entry, said[entry.line - 1]), _score(receipt, criterion))


def _tell_of_others() -> None:
    """Name what an earlier call has left at work: one that was killed could cancel nothing."""
    from headrace_workers.features.batches.commands.batch_files import deployment
    from headrace_workers.features.batches.commands.run_jobs import TRIAL

    with deployment() as here:
        for batch in here.batches.unfinished():
            if batch.cancelling_at is None and json.loads(batch.metadata).get(TRIAL) == _TRIAL:
                say(
                    f"another `headrace {_TRIAL}` runs, or was killed: `headrace batch cancel {batch.id}` ends its jobs"
                )


def _lines(found: Iterable["Past"], criterion: Criterion, said: list[Said]) -> Iterator[bytes]:
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


def _past(jobs: "JobFile", entry: Any, said: Said) -> "Past":
    """Return an output and its scores from its record."""
    from headrace_workers.features.judging.criterion_trial import Past
    from headrace_workers.features.judging.subject import Subject

    job, _ = jobs.read(entry)
    assert isinstance(job, EvaluationJob)  # noqa: S101 - written above
    job_id, value, not_judged = said
    return Past(job_id, job.tenant, Subject(job.output, ()), value, not_judged)


def _score(receipt: "Receipt", criterion: Criterion) -> Score:
    """Return the score; a job that died has no score, with the reason."""
    event = receipt.event
    if isinstance(event, Result) and event.judge is not None and event.judge.scores:
        return event.judge.scores[0]
    reason = str(getattr(event, "reason", "") or "its job came to no verdict")[:1_000]
    return Score(criterion=criterion.criterion, not_judged=NotJudged.FAILED, reason=reason)
