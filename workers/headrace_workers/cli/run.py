"""`headrace run`: answer a file of jobs into a file of receipts, and go on after whatever interrupted it."""

import hashlib
import time
from collections.abc import Sequence
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from headrace_producers import TopicMissing
from headrace_schemas.errors import ConfigurationError, Unavailable, UnknownModel
from headrace_schemas.job import Lane
from headrace_workers.cli import asking, progress
from headrace_workers.cli.jobfile import Entry, Job, JobFile
from headrace_workers.cli.outfile import ReceiptFile, read_receipts
from headrace_workers.cli.output import console, hush_kafka, put_json, say
from headrace_workers.cli.report import draw_receipts, draw_summary, summary_dict
from headrace_workers.cli.summary import Tally
from headrace_workers.settings import home_of

if TYPE_CHECKING:
    from headrace_workers.cli.feed import Feed
    from headrace_workers.cli.serving import Serving
    from headrace_workers.cli.unserved import UnservedWarning

_POLL_SECONDS = 0.2
_LOOK_SECONDS = 5.0  # between two looks at whether anybody serves what is waited for


def register(app: typer.Typer) -> None:
    """Add this command."""
    app.command("run")(run)


def run(
    file: Annotated[str, typer.Argument(help="jobs as JSON lines, or - for standard input")],
    output: Annotated[Path, typer.Option("--output", "-o", help="receipts as JSON lines; is added to")],
    model: asking.ModelOption = None,
    max_tokens: asking.MaxTokensOption = None,
    temperature: asking.TemperatureOption = None,
    lane: asking.LaneOption = Lane.BATCH,
    priority: asking.PriorityOption = None,
    tenant: asking.TenantOption = None,
    name: Annotated[str, typer.Option("--name", help="another name asks all anew, also what was answered")] = "",
    show_table: Annotated[bool, typer.Option("--table", help="print a table of the receipts at the end")] = False,
    start: Annotated[bool, typer.Option("--start/--no-start", help="start a stack where none runs")] = True,
    engine_threads: Annotated[
        int | None, typer.Option("--engine-threads", min=1, help="generations side by side; all cores by default")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="print the summary as one JSON object")] = False,
) -> None:
    """Answer a file of jobs: start a stack where none runs, submit, wait, write the receipts, stop it.

    Interrupted or killed at any point and called again, it goes on where it was and answers nothing twice: a line's
    job is known by its content and its number, or by its own idempotency key. Each receipt is the event as
    published, with `type` and the input's `line`. Exit code 1: some jobs died or were cancelled.

    Example: `headrace run jobs.jsonl -o receipts.jsonl --table`
    """
    from headrace_workers.cli.serving import ends_on_sigterm

    hush_kafka()
    if file != asking.STDIN and output.exists() and Path(file).exists() and output.samefile(file):
        raise ConfigurationError(f"{output} is the input: choose another file for the receipts")
    defaults = asking.defaults_of(
        model=model, max_tokens=max_tokens, temperature=temperature, lane=lane, tenant=tenant, priority=priority
    )
    with ends_on_sigterm(), ExitStack() as stack:
        stream, source = stack.enter_context(asking.opened(file))
        jobs = JobFile(stream, source, defaults, ByContent(name))
        entries = jobs.check()
        asking.note_repeats(source, jobs.repeated)
        receipts = stack.enter_context(ReceiptFile(output))
        todo = _todo(entries, receipts)
        this_run, startup, seconds = Tally(), 0.0, 0.0
        if todo:
            try:
                startup, seconds = _answer(
                    jobs, entries, todo, receipts, this_run, start=start, engine_threads=engine_threads
                )
            except (ConfigurationError, UnknownModel):  # nothing was begun
                raise
            except BaseException:
                say(f"{len(receipts.job_ids & {e.job_id for e in entries}):,} of {len(entries):,} are in {output}; "
                    "the same command goes on from there")  # fmt: skip
                raise
    failed = _report(entries, output, this_run, seconds, startup, show_table=show_table, as_json=as_json)
    raise typer.Exit(1 if failed else 0)


class ByContent:
    """Names the jobs of a file by what they are, so that they are the same in the next call, too.

    The key is over the whole job as it will be sent, its line's number, and the run's name.
    """

    def __init__(self, name: str = "") -> None:
        self._name = name

    def __call__(self, line: int, job: Job) -> tuple[Job, str]:
        """The job with a key, and the id of its event."""
        if job.idempotency_key is None:
            content = f"{self._name}\n{line}\n{job.model_dump_json(exclude_none=True)}"
            key = f"run-{hashlib.sha256(content.encode()).hexdigest()[:40]}"
            job = job.model_copy(update={"idempotency_key": key})
        return job, f"run-{job.job_id('')}"


def _todo(entries: Sequence[Entry], receipts: ReceiptFile) -> list[Entry]:
    if receipts.cut_bytes:
        say(f"{receipts.path}: a torn last line of {receipts.cut_bytes} bytes was cut off")
    todo = [entry for entry in entries if entry.job_id not in receipts.job_ids]
    if answered := len(entries) - len(todo):
        say(f"{receipts.path} has {answered:,} of {len(entries):,} receipts already")
    return todo


def _answer(
    jobs: JobFile,
    entries: Sequence[Entry],
    todo: Sequence[Entry],
    receipts: ReceiptFile,
    tally: Tally,
    *,
    start: bool,
    engine_threads: int | None,
) -> tuple[float, float]:
    """Bring these jobs to their ends and their receipts into the file.

    Returns seconds: until all was ready, and from then to the last receipt.
    """
    from headrace_workers.cli.feed import Feed
    from headrace_workers.cli.lookup import LedgerJobs
    from headrace_workers.cli.publish import Publisher
    from headrace_workers.cli.reach import need_ledger, served_queues
    from headrace_workers.cli.serving import serving
    from headrace_workers.cli.unserved import UnservedWarning

    began = time.monotonic()
    with (
        serving(home_of(), list(jobs.models) or [""], start=start, engine_threads=engine_threads) as stack,
        closing(need_ledger()) as ledger,
        closing(Publisher(jobs, tend=stack.check)) as publisher,
    ):

        def publish(chunk: Sequence[Entry]) -> None:
            try:
                publisher.send(chunk)
            except (Unavailable, TopicMissing) as error:
                say(f"{len(chunk)} jobs will be sent again: {error}")

        jobs_there = LedgerJobs(ledger)
        feed = Feed(todo, jobs_there, publish, started_ms=ledger.now(), monotonic=time.monotonic)
        unserved = UnservedWarning(jobs_there.queues, served_queues, say)
        startup = time.monotonic() - began
        with progress.shown(len(entries), len(entries) - len(todo)) as show:
            _carry(feed, stack, receipts, tally, show, unserved)
        seconds = time.monotonic() - began - startup
        if feed.resent:
            say(f"{feed.resent:,} were sent more than once, and answered once")
    return startup, seconds


def _carry(
    feed: "Feed",
    stack: "Serving",
    receipts: ReceiptFile,
    tally: Tally,
    show: progress.Show,
    unserved: "UnservedWarning",
) -> None:
    look_at = time.monotonic() + _LOOK_SECONDS
    while not feed.done:
        stack.check()
        try:
            if time.monotonic() >= look_at:
                look_at = time.monotonic() + _LOOK_SECONDS
                unserved.look(feed.accepted)
            ended = feed.turn()  # last, since what it hands out is handed out once
        except Unavailable as error:  # whatever it was, it is asked again
            say(f"waiting: {error}")
            ended = []
        receipts.append(ended)
        for receipt in ended:
            tally.add(receipt)
        show(tally)
        if not feed.done:
            time.sleep(_POLL_SECONDS)


def _report(
    entries: Sequence[Entry],
    output: Path,
    this_run: Tally,
    seconds: float,
    startup: float,
    *,
    show_table: bool,
    as_json: bool,
) -> bool:
    """Print what came of it; whether some jobs have no answer."""
    asked = {entry.job_id for entry in entries}
    whole = Tally(receipt for receipt in read_receipts(output) if receipt.job_id in asked)
    out = console(data=True)
    if show_table and not as_json:
        out.print(draw_receipts((r for r in read_receipts(output) if r.job_id in asked), len(entries)))
    if as_json:
        put_json({"receipts": str(output), **summary_dict(whole, this_run, seconds, startup)})
    else:
        out.print(draw_summary(whole, this_run, seconds))
    say(f"receipts: {output}")
    if whole.statuses["dead"]:
        say("what died: `headrace dead list`")
    return whole.unanswered > 0
