"""`headrace run`: answers a file of jobs into a file of receipts, and continues after any interruption."""

import hashlib
import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Annotated

import typer

from headrace_schemas.errors import ConfigurationError, UnknownModel
from headrace_schemas.job import Lane
from headrace_workers.cli import asking
from headrace_workers.cli.jobfile import Job, JobEntry, JobFile
from headrace_workers.cli.output import console, hush_kafka, put_json, say
from headrace_workers.cli.receipts import Receipt
from headrace_workers.features.batches.commands.receipt_file import ReceiptFile, read_receipts
from headrace_workers.features.batches.commands.run_batch import name_of_run
from headrace_workers.features.batches.commands.run_jobs import ThisRun, carry, models_for
from headrace_workers.features.batches.commands.run_report import Tally, draw_receipts, draw_summary, summary_dict
from headrace_workers.features.generation.commands.serving import ends_on_sigterm
from headrace_workers.runtime.settings import ModelSettings


@asking.asks(lane=Lane.BATCH)
def run(
    file: Annotated[str, typer.Argument(help="jobs as JSON lines, or - for standard input")],
    output: Annotated[
        Path, typer.Option("--output", "-o", help="file for receipts as JSON lines; new receipts are appended")
    ],
    asked: asking.JobOptions,
    max_tokens: asking.MaxTokensOption = None,
    name: Annotated[
        str, typer.Option("--name", help="a new name runs all jobs again, even if they were answered")
    ] = "",
    show_table: Annotated[bool, typer.Option("--table", help="print a table of the receipts at the end")] = False,
    start: Annotated[bool, typer.Option("--start/--no-start", help="start a stack if none runs")] = True,
    engine_threads: Annotated[
        int | None, typer.Option("--engine-threads", min=1, help="threads of the models; all cores by default")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as one JSON object")] = False,
) -> None:
    """Answer a file of jobs: start a stack if none runs, submit the file as a batch, write the receipts, stop the
    stack.

    If it is interrupted or killed, run it again: it continues, and answers no line twice. It knows a line's job by its
    content and number, or by its own idempotency key. Each receipt is the published event with `type` and the input's
    `line`. Lines that were refused are sent again; the last receipt of a job counts. Exit code 1: some jobs died or
    were cancelled.

    If OUTPUT is a pipe or a device, it gets receipts, but a later call cannot continue.

    Example: `headrace run jobs.jsonl -o receipts.jsonl --table`
    """
    hush_kafka()
    if file != asking.STDIN and output.exists() and Path(file).exists() and output.samefile(file):
        raise ConfigurationError(f"{output} is the input: choose another file for the receipts")
    defaults = asked.defaults(max_tokens=max_tokens)
    with ends_on_sigterm(), ExitStack() as stack:
        stream, source = stack.enter_context(asking.opened(file))
        jobs = JobFile(stream, source, defaults, ByContent(name))
        entries = jobs.check()
        asking.note_repeats(source, jobs.repeated)
        receipts = stack.enter_context(ReceiptFile(output))
        todo = _todo(entries, receipts)
        this_run = ThisRun()
        if todo:
            models = models_for(jobs, defaults.model, ModelSettings.from_env().judge_model)
            with _telling_where_it_stands(entries, receipts):
                call = name_of_run(stream, defaults, name)
                carry(jobs, models, entries, todo, call, receipts, this_run, start=start, engine_threads=engine_threads)
    failed = _report(entries, receipts, this_run, show_table=show_table, as_json=as_json)
    raise typer.Exit(1 if failed else 0)


class ByContent:
    """The names of a file's jobs, made of their content, so that they are the same in the next call.

    The key is over the whole job as it will be sent, its line's number, and the run's name.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name

    def __call__(self, line: int, job: Job) -> tuple[Job, str]:
        """Return the job with a key, and the id of its event."""
        if job.idempotency_key is None:
            content = f"{self._name}\n{line}\n{job.model_dump_json(exclude_none=True)}"
            key = f"run-{hashlib.sha256(content.encode()).hexdigest()[:40]}"
            job = job.model_copy(update={"idempotency_key": key})
        return job, f"run-{job.job_id('')}"


def _todo(entries: Sequence[JobEntry], receipts: ReceiptFile) -> list[JobEntry]:
    """Return the entries without a receipt, and those that were refused: their line, or what it names, may be another
    now.
    """
    if receipts.cut_bytes:
        say(f"{receipts.path}: an incomplete last line of {receipts.cut_bytes} bytes was removed")
    refused = [entry.job_id for entry in entries if entry.job_id in receipts.refusals]
    for job_id in refused:
        receipts.ask_again(job_id)
    if refused:
        say(f"{len(refused):,} {'line was' if len(refused) == 1 else 'lines were'} refused before: sent again")
    todo = [entry for entry in entries if entry.job_id not in receipts.job_ids]
    if answered := len(entries) - len(todo):
        say(f"{receipts.path} has {answered:,} of {len(entries):,} receipts already")
    return todo


def _report(
    entries: Sequence[JobEntry], receipts: ReceiptFile, this_run: ThisRun, *, show_table: bool, as_json: bool
) -> bool:
    """Print the outcome of the run; return True if some jobs have no answer."""
    whole, output = this_run.tally, receipts.path
    job_ids = {entry.job_id for entry in entries}

    def kept() -> Iterator[Receipt]:
        return (found for found in read_receipts(output, receipts.outdated) if found.job_id in job_ids)

    if receipts.keeps:
        whole = Tally(kept())
    if as_json:
        put_json({"receipts": str(output), **summary_dict(whole, this_run.tally, this_run.seconds, this_run.startup)})
    else:
        # If the receipts went to standard output, the summary would stand among them.
        out = console(data=not _is_stdout(output))
        if show_table:
            out.print(draw_receipts(kept() if receipts.keeps else this_run.first, len(entries)))
        out.print(draw_summary(whole, this_run.tally, this_run.seconds))
    say(f"receipts: {output}")
    if whole.statuses["dead"]:
        say("dead letters: `headrace dead list`")
    return whole.unanswered > 0


@contextmanager
def _telling_where_it_stands(entries: Sequence[JobEntry], receipts: ReceiptFile) -> Iterator[None]:
    """Say how far the run came if it ends before all are answered, once anything was begun."""
    try:
        yield
    except (ConfigurationError, UnknownModel):  # nothing was
        raise
    except BaseException:
        there = len(receipts.job_ids & {entry.job_id for entry in entries})
        then = "run the same command to continue" if receipts.keeps else "it cannot be gone on with"
        say(f"{there:,} of {len(entries):,} are in {receipts.path}; {then}")
        raise


def _is_stdout(path: Path) -> bool:
    return os.path.samestat(path.stat(), os.fstat(sys.stdout.fileno()))
