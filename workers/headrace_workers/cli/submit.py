"""`headrace submit`: publish jobs, and wait for their receipts if asked to."""

import time
from collections.abc import Collection, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager, suppress
from typing import TYPE_CHECKING, Annotated, BinaryIO

import typer

from headrace_schemas import Result
from headrace_schemas.codec import encode_value
from headrace_schemas.errors import ConfigurationError, Unavailable
from headrace_workers.cli import asking
from headrace_workers.cli.jobfile import JobEntry, JobFile
from headrace_workers.cli.options import JsonLinesOption
from headrace_workers.cli.output import flush, hush_kafka, put, put_bytes, put_json, say
from headrace_workers.cli.receipts import Receipt
from headrace_workers.cli.streams import OutputFailed
from headrace_workers.core.job_defaults import Defaults

if TYPE_CHECKING:
    from headrace_producers import ResultReader
    from headrace_workers.cli.job_sender import Publisher
    from headrace_workers.cli.waiting import Jobs, LedgerJobs

_CONFIRM_SECONDS = 30.0
_CHUNK = 1_000  # jobs between two waits for the broker


@asking.asks()
def submit(
    file: Annotated[str | None, typer.Argument(help="jobs as JSON lines, or - for standard input")] = None,
    prompt: Annotated[str | None, typer.Option("--prompt", "-p", help="one prompt instead of a file")] = None,
    *,
    asked: asking.JobOptions,
    max_tokens: asking.MaxTokensOption = None,
    stop: Annotated[
        list[str] | None, typer.Option("--stop", help="with --prompt: stop the answer before this text")
    ] = None,
    seed: Annotated[int | None, typer.Option("--seed", min=0, help="with --prompt: seed for sampling")] = None,
    key: Annotated[str | None, typer.Option("--key", help="with --prompt: idempotency key")] = None,
    deadline: asking.DeadlineOption = None,
    wait: Annotated[bool, typer.Option("--wait", "-w", help="wait for the receipts and print them")] = False,
    timeout: Annotated[float | None, typer.Option("--timeout", min=0, help="wait no longer than these seconds")] = None,
    as_json: JsonLinesOption = False,
) -> None:
    """Publish jobs and print their ids, one on each line. If any line is wrong, nothing is published.

    A line is a job of the `kind` that it names: generation, evaluation, embedding, moderation or decision. Without a
    kind, a line with `questions` is a decision job, a line with a text as `output` an evaluation job, and any other a
    generation job. Options fill in what a line does not say.
    Exit code 1: a job was refused, died, was cancelled, or did not end in time.

    Examples: `headrace submit --prompt "Name three rivers." --wait`, `headrace submit jobs.jsonl --lane batch`
    """
    hush_kafka()
    if (file is None) == (prompt is None):
        raise ConfigurationError("give either a file of jobs (- for standard input) or --prompt")
    if prompt is None and (stop or seed is not None or key is not None):
        raise ConfigurationError("--stop, --seed and --key need --prompt; in a file, each line has them")
    defaults = asked.defaults(max_tokens=max_tokens, deadline=deadline)
    with ExitStack() as stack:
        if prompt is not None:
            stream, name = asking.prompt_stream(prompt, stop, seed, key), "--prompt"
        else:
            stream, name = stack.enter_context(asking.opened(file or ""))
        failed = _submit(stream, name, defaults, wait=wait, timeout=timeout, as_json=as_json, text=prompt is not None)
    raise typer.Exit(1 if failed else 0)


def _submit(
    stream: BinaryIO, name: str, defaults: Defaults, *, wait: bool, timeout: float | None, as_json: bool, text: bool
) -> bool:
    """Submit, and return True if anything failed."""
    from headrace_producers import KafkaSettings, ResultReader
    from headrace_workers.cli.job_sender import Publisher

    jobs_file = JobFile(stream, name, defaults, asking.Once())
    entries = jobs_file.check()
    asking.note_repeats(name, jobs_file.repeated)
    if not entries:
        say(f"{name}: the file has no jobs")
        return False
    settings = KafkaSettings.from_env()
    with _ledger_jobs() as (jobs, since), closing(Publisher(jobs_file)) as publisher:
        try:
            if not wait:
                return _send(jobs_file, entries, publisher, jobs, since, as_json=as_json)
            with ResultReader(settings) as reader:
                taken = set[str]()
                for chunk in _chunks(entries):
                    with suppress(Unavailable):  # Kafka tells the ends, too
                        taken.update(_taken(jobs_file, chunk, jobs))
                    publisher.send(chunk)
                return _wait(
                    entries, publisher, jobs, since, reader, taken, timeout=timeout, as_json=as_json, text=text
                )
        except OutputFailed:
            say(f"{publisher.sent} of {len(entries)} jobs were published before this; they go on")
            raise
        except KeyboardInterrupt:
            _tell_interrupted(entries, publisher.sent)
            raise


def _warn_if_unread() -> None:
    """Warn if no bridge has ever read the topics: no ledger says here which prefix they have."""
    from headrace_producers import KafkaSettings
    from headrace_producers.admin import was_read
    from headrace_schemas.topics import INBOUND

    kafka = KafkaSettings.from_env()
    if was_read(kafka, INBOUND) is False:
        say(f"warning: no bridge has read the topics {kafka.prefix}* on {kafka.address} yet, and jobs wait for one: is "
            "HEADRACE_TOPIC_PREFIX that of your bridges?")  # fmt: skip


def _tell_interrupted(entries: list[JobEntry], sent: int) -> None:
    """Say that the wait has ended, and that published jobs are still answered."""
    if sent == len(entries) == 1:
        job_id = entries[0].job_id
        say(f"interrupted; the job goes on: `headrace status {job_id}` shows it, `headrace cancel {job_id}` "
            "cancels it")  # fmt: skip
    else:
        say(f"interrupted: {sent} of {len(entries)} jobs were published; jobs that have not ended go on: "
            "`headrace results` prints their receipts")  # fmt: skip


def _send(
    file: JobFile,
    entries: list[JobEntry],
    publisher: "Publisher",
    jobs: "Jobs | None",
    since: int,
    *,
    as_json: bool,
) -> bool:
    """Publish, and print the ids of accepted jobs; return True if any job was not accepted."""
    from headrace_workers.cli.connections import is_durable
    from headrace_workers.cli.waiting import Waiting

    # Where the broker's log is in memory a job is accepted when the ledger holds it.
    confirms = jobs is not None and not is_durable()
    refused: list[tuple[int | None, str]] = []
    unknown = 0
    for chunk in _chunks(entries):
        taken = _taken(file, chunk, jobs)
        refused += [(entry.line, taken[entry.job_id]) for entry in chunk if entry.job_id in taken]
        wanted = [entry for entry in chunk if entry.job_id not in taken]
        if not wanted:
            continue
        publisher.send(wanted)
        if confirms:
            waiting = Waiting(wanted, resend=publisher.send, monotonic=time.monotonic, jobs=jobs, since_ms=since)
            now_refused, now_unknown = waiting.confirm(_CONFIRM_SECONDS, time.sleep)
            refused += [(receipt.line, getattr(receipt.event, "reason", "")) for receipt in now_refused]
            unknown += now_unknown
            wanted = [entry for entry in wanted if entry.job_id in waiting.open]
        _print_ids(wanted, as_json)
    _tell_refused(refused)
    if jobs is None:
        _warn_if_unread()
    if unknown:
        say(f"{unknown} jobs were published, and the ledger has not accepted them yet: see `headrace status JOB`")
    return bool(refused or unknown)


def _taken(file: JobFile, entries: Sequence[JobEntry], jobs: "Jobs | None") -> dict[str, str]:
    """Return the jobs whose key the ledger has with other content, by id, with the reason for which they would be
    refused later if they were published.
    """
    if jobs is None:
        return {}
    from headrace_workers.core.ledger.ingest import RecordContent

    there = jobs.accepted([entry.job_id for entry in entries])
    known = [entry for entry in entries if entry.job_id in there]
    jobs_again = [file.read(entry)[0] for entry in known]
    contents = [
        RecordContent(entry.job_id, job.tenant, encode_value(job)) for entry, job in zip(known, jobs_again, strict=True)
    ]
    return {contents[n].job_id: reason for n, reason in jobs.conflict_reasons(contents).items()}


def _wait(
    entries: list[JobEntry],
    publisher: "Publisher",
    jobs: "LedgerJobs | None",
    since: int,
    reader: "ResultReader",
    taken: Collection[str],
    *,
    timeout: float | None,
    as_json: bool,
    text: bool,
) -> bool:
    """Print each receipt as it comes; whether any job is without an answer."""
    from headrace_workers.cli.connections import redis_address, served_queues
    from headrace_workers.cli.unserved import UnservedWarning
    from headrace_workers.cli.waiting import Waiting

    look = UnservedWarning(jobs.queues, served_queues, say, redis=redis_address()).look if jobs else None
    waiting = Waiting(
        entries,
        resend=publisher.send,
        monotonic=time.monotonic,
        jobs=jobs,
        since_ms=since,
        look=look,
        taken=taken,
    )
    say(f"{len(entries)} published, waiting for the receipts" if len(entries) > 1 else entries[0].job_id)
    if jobs is None:
        _warn_if_unread()
    failed = False
    for receipt in waiting.ends(reader, timeout):
        failed |= not receipt.answered
        print_receipt(receipt, as_json=as_json, text=text)
        flush()
    if waiting.open:
        say(f"{len(waiting.open)} of {len(entries)} have not ended after {timeout:g} s; they go on, and "
            "`headrace results` will print their ends. What each waits for:")  # fmt: skip
        for job_id in list(waiting.open)[:10]:
            say(f"  headrace status {job_id}")
        if waiting.unknown:
            say(f"the ledger does not know {waiting.unknown} of them: `headrace status` tells what is wrong")
        if look is not None:
            look(waiting.open)
    return failed or bool(waiting.open)


def print_receipt(receipt: Receipt, *, as_json: bool, text: bool = False) -> None:
    """Print a receipt as JSON, as one line, or (`text`) as the bare answer with the rest on standard error."""
    from headrace_workers.cli.output import printable, without_controls
    from headrace_workers.cli.receipts import one_line, passages, row

    if as_json:
        put_bytes(receipt.to_json())
        return
    answer = receipt.text
    if not text or answer is None:
        put(printable(one_line(receipt)))
        return
    shown = row(receipt)
    put(without_controls(answer))
    judged = "".join(f", {line}" for line in shown.criteria.splitlines())
    say(f"({shown.ended}, moderation {shown.moderation or 'none'}{judged}, {shown.tokens} tokens, {shown.ms} ms)")
    if isinstance(receipt.event, Result) and receipt.event.answer:
        for line in passages(receipt.event.answer):
            say(printable(line))


@contextmanager
def _ledger_jobs() -> "Iterator[tuple[LedgerJobs | None, int]]":
    """Return the ledger's view of jobs and its present time, if a ledger is known."""
    from headrace_workers.cli.connections import find_ledger

    ledger = find_ledger(live=True)
    if ledger is None:
        yield None, 0
        return
    from headrace_workers.cli.waiting import LedgerJobs

    try:
        yield LedgerJobs(ledger), ledger.now()
    finally:
        ledger.close()


def _chunks(entries: Sequence[JobEntry]) -> Iterator[Sequence[JobEntry]]:
    for start in range(0, len(entries), _CHUNK):
        yield entries[start : start + _CHUNK]


def _print_ids(entries: Sequence[JobEntry], as_json: bool) -> None:
    for entry in entries:
        if as_json:
            put_json({"line": entry.line, "job_id": entry.job_id})
        else:
            put(entry.job_id)
    flush()


def _tell_refused(refused: Sequence[tuple[int | None, str]]) -> None:
    for line, reason in refused[:20]:
        say(f"line {line}: refused: {reason}")
    if len(refused) > 20:
        say(f"and {len(refused) - 20} more; see `headrace dead list`")
