"""The jobs of a file, run to their ends: a stack if none runs, batches, and receipts as they come."""

import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final

from headrace_schemas.errors import HeadraceError, Unavailable
from headrace_workers.cli.connections import redis_address, served_queues
from headrace_workers.cli.jobfile import JobEntry, JobFile
from headrace_workers.cli.output import say
from headrace_workers.cli.receipts import Receipt
from headrace_workers.cli.unserved import UnservedWarning
from headrace_workers.cli.waiting import LedgerJobs
from headrace_workers.features.batches.commands import run_report
from headrace_workers.features.batches.commands.batch_files import Deployment, deployment
from headrace_workers.features.batches.commands.receipt_file import ReceiptFile
from headrace_workers.features.batches.commands.run_batch import FileBatch
from headrace_workers.features.batches.commands.run_report import MAX_ROWS, Tally
from headrace_workers.features.generation.commands.serving import Serving, serving
from headrace_workers.runtime.settings import ModelSettings, home_of

TRIAL: Final = "trial"  # in a batch's metadata: which one its jobs belong to
_POLL_SECONDS = 0.2
_LOOK_SECONDS = 5.0  # between two checks for unserved queues


@dataclass
class ThisRun:
    """The results of one call: its numbers, and the receipts that a table has room for. Times in seconds."""

    tally: Tally = field(default_factory=Tally)
    first: list[Receipt] = field(default_factory=list)
    startup: float = 0.0  # until all was ready
    seconds: float = 0.0  # from then to the last receipt

    def add(self, receipts: Sequence[Receipt]) -> None:
        """Count these."""
        for receipt in receipts:
            self.tally.add(receipt)
        self.first += receipts[: MAX_ROWS - len(self.first)]


def models_for(jobs: JobFile, default: str, judge: str | None) -> list[str]:
    """Return the models that these jobs need: those they name, and one for rubrics that name none.

    That is the deployment's `judge`, else the first model of the file, else the `default`. No job needs a model where
    texts are only compared.
    """
    named = list(jobs.models)
    if not jobs.wants_judge:
        return named
    return list(dict.fromkeys([*named, judge or next(iter(named), default)]))


def carry(
    jobs: JobFile,
    models: Sequence[str],
    entries: Sequence[JobEntry],
    todo: Sequence[JobEntry],
    call: str,
    receipts: ReceiptFile,
    this_run: ThisRun,
    *,
    start: bool,
    engine_threads: int | None,
    patience: float | None = None,
    trial: str | None = None,
) -> None:
    """Run these jobs to their ends, and write their receipts into the file.

    With `patience`, wait that many seconds at most. The batches of a `trial` carry its name; if this call is
    interrupted, its unfinished jobs are cancelled, since nobody else wants the answers.
    """
    began = time.monotonic()
    with (
        serving(
            home_of(),
            models,
            embedder=ModelSettings.from_env().embedder if jobs.wants_embedder else None,
            start=start,
            engine_threads=engine_threads,
        ) as stack,
        deployment() as here,
    ):
        ends = LedgerJobs(here.ledger)
        batches = _batches(here, jobs, ends, todo, call, trial)
        unserved = UnservedWarning(ends.queues, served_queues, say, redis=redis_address())
        this_run.startup = time.monotonic() - began
        try:
            with run_report.shown(len(entries), len(entries) - len(todo)) as show:
                _carry(batches, stack, receipts, this_run, show, unserved, patience)
        except BaseException:
            if trial is not None:
                _release(batches)
            raise
        this_run.seconds = time.monotonic() - began - this_run.startup


def _batches(
    here: Deployment, jobs: JobFile, ends: LedgerJobs, todo: Sequence[JobEntry], call: str, trial: str | None
) -> list[FileBatch]:
    """Return a batch for each tenant of the jobs."""
    return [
        FileBatch(
            here,
            jobs,
            ends,
            tenant=tenant,
            entries=[entry for entry in todo if entry.tenant == tenant],
            run=call,
            metadata={} if trial is None else {TRIAL: trial},
        )
        for tenant in dict.fromkeys(entry.tenant for entry in todo)
    ]


def _release(batches: Sequence[FileBatch]) -> None:
    """Cancel the unfinished jobs of a trial, and say so."""
    try:
        left = sum([batch.cancel() for batch in batches])
    except HeadraceError as error:
        say(f"unfinished jobs could not be cancelled: {error}; `headrace batch status` shows it")
        return
    if left:
        say(f"{left:,} unfinished jobs are cancelled; run the command again to start over")


def _carry(
    batches: Sequence[FileBatch],
    stack: Serving,
    receipts: ReceiptFile,
    this_run: ThisRun,
    show: run_report.Show,
    unserved: UnservedWarning,
    patience: float | None,
) -> None:
    look_at = time.monotonic() + _LOOK_SECONDS
    until = None if patience is None else time.monotonic() + patience
    while not all(batch.done for batch in batches):
        stack.check()
        looks = time.monotonic() >= look_at
        if looks:
            look_at = time.monotonic() + _LOOK_SECONDS
        ended: list[Receipt] = []
        try:
            for batch in batches:
                if looks:
                    unserved.look(batch.open)
                ended += batch.turn()
        except Unavailable as error:  # whatever it was, it is asked again
            say(f"waiting: {error}")
        receipts.append(ended)
        this_run.add(ended)
        show(this_run.tally, ended)
        if until is not None and time.monotonic() >= until:
            return
        if not all(batch.done for batch in batches):
            time.sleep(_POLL_SECONDS)
