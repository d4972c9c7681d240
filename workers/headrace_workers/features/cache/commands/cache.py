"""`headrace cache`: why a job was given an earlier answer, and the end of answers."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import typer

from headrace_producers import Producer
from headrace_producers.errors import InvalidJob
from headrace_schemas import DecisionJob, GenerationJob
from headrace_schemas.codec import decode_job
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import MAX_METADATA
from headrace_schemas.recall import CacheMode
from headrace_workers.cli.connections import need_ledger, ring_bridges
from headrace_workers.cli.durations import parse_duration
from headrace_workers.cli.options import OneJsonOption
from headrace_workers.cli.output import be_sure, console, flush, hush_kafka, put_json, say, table
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.cache.commands import views
from headrace_workers.features.cache.commands.explain import explain as explained
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.audits import Audits
from headrace_workers.features.cache.store.removal import EXACT, AnswerOf, EntryFilter, Recalled

RERUN_OF = "rerun_of"  # the name in a job's metadata under which stands the job that it answers afresh
_CHUNK = 1_000  # jobs between two waits for the broker


@dataclass(frozen=True, slots=True)
class Rerun:
    """A job that is asked again: the old id, the new one, and whether it was sent now or before; or why it is not."""

    job_id: str
    rerun: str | None
    state: str  # sent | sent before | not sent
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class New:
    """A job to be sent in the place of another."""

    old: str
    job: GenerationJob | DecisionJob
    correlationid: str | None

    @property
    def key(self) -> str:
        """Return its idempotency key, which is the id of its event, too."""
        return self.job.idempotency_key or ""

    @property
    def job_id(self) -> str:
        """Return the new id."""
        return self.job.job_id(self.key)


def renewed(job_id: str, entry_id: int, row: Any | None) -> New | Rerun:
    """Return the job to send in the place of this one, or why there is none. `row` is one of `Ledger.to_ask_again`.

    Its key comes from the old job and the answer that was wrong. Its deadline is left out, as it may have passed.
    """
    if row is None:
        return _not(job_id, "its content is no longer in the ledger")
    if row.state in ("dead", "cancelled"):
        return _not(job_id, f"it is {row.state}: it told nobody an answer")
    job = decode_job(row.kind, bytes(row.payload))
    if not isinstance(job, GenerationJob | DecisionJob):
        return _not(job_id, f"it is of the kind {row.kind}")
    metadata = {**job.metadata, RERUN_OF: job_id}
    if len(metadata) > MAX_METADATA:
        return _not(
            job_id, f"its metadata has no room for `{RERUN_OF}`: more than {MAX_METADATA} entries are not taken"
        )
    changed = {
        "cache": CacheMode.OFF, "max_age": None, "deadline": None, "metadata": metadata,
        "idempotency_key": f"rerun:{job_id}:{entry_id}",
    }  # fmt: skip
    return New(job_id, job.model_copy(update=changed), row.correlationid)


def send(new: Sequence[New], producer: Producer, done: Callable[[Rerun], None]) -> None:
    """Send these and tell of each once the broker has it. Raise Unavailable when it does not take them."""
    for start in range(0, len(new), _CHUNK):
        futures = [_send(job, producer) for job in new[start : start + _CHUNK]]
        producer.flush()
        for future in futures:
            done(future)


def _send(new: New, producer: Producer) -> Rerun:
    try:
        producer.submit(new.job, event_id=new.key, correlationid=new.correlationid)
    except InvalidJob as error:  # it was as large as may be, and is larger now
        return _not(new.old, str(error))
    return Rerun(new.old, new.job_id, "sent")


def _not(job_id: str, reason: str) -> Rerun:
    return Rerun(job_id, None, "not sent", reason)


_HEX = frozenset("0123456789abcdef")
_LONGEST_ID = 2**63 - 1
_PAGE = 2_000  # rows of one query
WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.05
_JobArgument = Annotated[str, typer.Argument(metavar="JOB", help="the job's id")]


def explain(job_id: _JobArgument, as_json: OneJsonOption = False) -> None:
    """Explain why a job was given an earlier answer, or was not; for a waiting job, show which job it waits for.

    If the look-up was audited, the audit's result is shown, too.

    Exit code 1: there is no such job.

    Example: `headrace cache explain 7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00`
    """
    ledger = need_ledger()
    given = ledger.of(Answers).given(job_id)
    audit = ledger.of(Audits).of_job(job_id, given[0].entry_id if given else None)
    explanation = explained(job_id, ledger.job(job_id), given, ledger.of(Answers).of_job(job_id), audit)
    if explanation is None:
        _unknown(job_id)
    elif as_json:
        put_json(views.explained_dict(explanation))
    else:
        shown = console(data=True)
        shown.print(table(None, ("recall", ""), views.explained_rows(explanation)))
        rows = [views.gate_row(gate) for gate in explanation.gates]
        shown.print(table("gates, in order", views.GATE_COLUMNS, rows, right=views.GATE_RIGHT))


def purge(
    tenant: Annotated[str | None, typer.Option("--tenant", help="only of this tenant")] = None,
    scope: Annotated[
        str | None,
        typer.Option("--scope", help="the beginning of a scope, as `cache stats --scopes` shows it; or exact"),
    ] = None,
    older_than: Annotated[str | None, typer.Option("--older-than", help="made before, e.g. 90s, 10m, 2h, 3d")] = None,
    knowledge: Annotated[
        str | None, typer.Option("--knowledge", help="answers that rest on this knowledge base")
    ] = None,
    document: Annotated[
        str | None, typer.Option("--document", help="answers that rest on a document of this name")
    ] = None,
    ids: Annotated[
        list[int] | None, typer.Option("--entry", min=1, max=_LONGEST_ID, help="this answer; may be repeated")
    ] = None,
    everything: Annotated[bool, typer.Option("--all", help="all of them")] = False,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="do not ask")] = False,
    as_json: OneJsonOption = False,
) -> None:
    """Remove answers from the cache. Conditions add up; without a condition nothing happens.

    Answers that are made meanwhile are kept. Exit code 1: you said no, or an --entry did not exist.

    Examples: `headrace cache purge --tenant acme --older-than 2d`, `headrace cache purge --all --yes`,
    `headrace cache purge --knowledge handbook --document docs/leave.md`
    """
    filtered = any(option is not None for option in (tenant, scope, older_than, knowledge, document)) or bool(ids)
    if filtered == everything:
        raise ConfigurationError(
            "give --all, or one or more of --tenant, --scope, --older-than, --knowledge, --document and --entry"
        )
    ledger = need_ledger()
    wanted = replace(_wanted(ledger, tenant, scope, older_than, ids), knowledge=knowledge, document=document)
    if not yes and (count := ledger.of(Answers).count(wanted)):
        be_sure(
            f"Put {'it' if count == 1 else f'these {count:,}'} away for good?",
            "nothing was purged",
            before=f"{_answers(count)} would go, and ",
        )
    done = _purged(ledger, wanted)
    if as_json:
        put_json({"purged": done})
    say(f"{done:,} purged")
    missing = len(wanted.ids or ()) - done
    if missing > 0:
        say(f"{missing:,} of the --entry answers do not exist, or do not meet the other conditions")
    raise typer.Exit(1 if missing > 0 else 0)


def wrong(
    job_id: _JobArgument,
    reason: Annotated[str, typer.Option("--reason", help="the reason; it is kept with the answer")] = "",
    rerun: Annotated[bool, typer.Option("--rerun", help="send the jobs that were given it again, as new jobs")] = False,
    as_json: OneJsonOption = False,
) -> None:
    """Recall a wrong answer: it is never given again, and every job that was given it is listed.

    JOB is the job that made the answer, or any job that was given it. With --rerun each of them is sent again as a new
    job, with `cache: off` and the old id in its metadata (`rerun_of`). If you call it again, nothing is sent twice.
    Exit code 1: there is no such job or answer, or with --rerun: not all jobs could be sent.

    Example: `headrace cache wrong 7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00 --reason "the old price" --rerun`
    """
    hush_kafka()

    ledger = need_ledger()
    answers = _answers_of(ledger, job_id)
    ids = [answer.entry_id for answer in answers]
    recalled = ledger.of(Answers).recall(ids, f"wrong: {reason.strip()}" if reason.strip() else "wrong")
    if recalled.withdrawn:
        ring_bridges()  # who waited for it runs by itself now
    _settle(ledger, recalled)
    served = _served(ledger, ids)
    say(_summary(answers, recalled, len(served)))
    reruns: list[Rerun] = []
    try:
        if not as_json and served:
            rows = [views.served_row(row) for row in served]
            console(data=True).print(table(None, views.SERVED_COLUMNS, rows, right=("similarity",), whole=("job",)))
            flush()
        if rerun:
            _rerun(ledger, answers, served, reruns)
    finally:
        if as_json:
            put_json(
                {
                    "killed": recalled.killed,
                    "withdrawn": recalled.withdrawn,
                    "answers": [views.answer_dict(answer) for answer in ledger.of(Answers).of_job(job_id)],
                    "served": [views.served_dict(row) for row in served],
                    "rerun": [again_dict(again) for again in reruns] if rerun else None,
                }
            )
    if rerun:
        _tell(reruns, as_json)


def again_dict(again: Rerun) -> dict[str, Any]:
    """Return a job that was sent again, for `--json`."""
    return {"job_id": again.job_id, "rerun": again.rerun, "state": again.state, "reason": again.reason}


def _answers_of(ledger: Ledger, job_id: str) -> list[AnswerOf]:
    """Return the answers that this job made or was given. Exit with code 1 if there are none."""
    answers = ledger.of(Answers).of_job(job_id)
    if not answers:
        if ledger.job(job_id) is None:
            _unknown(job_id)
        say(f"{job_id}: its answer was given to no other job and is not in the cache: there is nothing to recall")
        raise typer.Exit(1)
    return answers


def _rerun(ledger: Ledger, answers: list[AnswerOf], served: list[Any], reruns: list[Rerun]) -> None:
    """Send the jobs again that made or were given these answers; `reruns` gets the outcome of each."""
    whose: dict[str, int] = {}
    for answer in answers:
        whose.setdefault(answer.first_job, answer.entry_id)
    for row in served:
        whose.setdefault(row.job_id, row.entry_id)
    jobs = list(whose)
    new: list[New] = []
    for start in range(0, len(jobs), _PAGE):
        part = jobs[start : start + _PAGE]
        known = ledger.of(Answers).to_ask_again(part)
        made = [renewed(job, whose[job], known.get(job)) for job in part]
        reruns += [outcome for outcome in made if isinstance(outcome, Rerun)]
        fresh = [outcome for outcome in made if isinstance(outcome, New)]
        there = ledger.of(Answers).to_ask_again([new_job.job_id for new_job in fresh])
        reruns += [Rerun(new_job.old, new_job.job_id, "sent before") for new_job in fresh if new_job.job_id in there]
        new += [new_job for new_job in fresh if new_job.job_id not in there]
    if new:
        with Producer.from_env() as producer:
            send(new, producer, reruns.append)


def again_row(again: Rerun) -> tuple[str, ...]:
    """Return a job that was sent again, as the cells of `AGAIN_COLUMNS`."""
    return (again.job_id, again.rerun or "–", again.state)


def _tell(reruns: list[Rerun], as_json: bool) -> None:
    """Print the outcome of the jobs that were sent again."""
    if not as_json:
        rows = [again_row(again) for again in reruns]
        console(data=True).print(table("sent again", views.AGAIN_COLUMNS, rows, whole=("job", "afresh as")))
    failed = [again for again in reruns if again.reason is not None]
    for again in failed:
        say(f"{again.job_id}: not sent: {again.reason}")
    say(f"{sum(again.state == 'sent' for again in reruns):,} sent again")
    raise typer.Exit(1 if failed else 0)


def _settle(ledger: Ledger, recalled: Recalled) -> None:
    """Wait for workers that may have read an answer just before it was killed: the command lists the jobs that they
    served, too."""
    if not recalled.killed:
        return
    until = time.monotonic() + WAIT_SECONDS
    while left := ledger.of(Answers).running(recalled.looking_up):
        if time.monotonic() > until:
            say(f"{len(left)} groups began their look-ups before this: run this again to see if they gave the answer")
            return
        time.sleep(_POLL_SECONDS)


def _served(ledger: Ledger, ids: list[int]) -> list[Any]:
    serves: list[Any] = []
    while page := ledger.of(Answers).served(ids, serves[-1].id if serves else 0, _PAGE):
        serves += page
    return serves


def _summary(answers: list[AnswerOf], recalled: Recalled, served: int) -> str:
    lives = "it is given to nobody any more" if len(answers) == 1 else "they are given to nobody any more"
    was = "" if recalled.killed or recalled.withdrawn else ", as before"
    jobs = "no other job was" if not served else "one job was" if served == 1 else f"{served:,} jobs were"
    ids = ", ".join(str(answer.entry_id) for answer in answers[:10])
    return f"answer {ids}: {lives}{was}; {jobs} given it"


def _wanted(
    ledger: Ledger, tenant: str | None, scope: str | None, older_than: str | None, ids: list[int] | None
) -> EntryFilter:
    if scope is not None and scope != EXACT and not (scope and len(scope) <= 64 and _HEX.issuperset(scope)):
        raise ConfigurationError(
            f"no scope begins with --scope {scope!r}: `headrace cache stats --scopes` shows them (8 of 0-9 and a-f, or "
            f"{EXACT})"
        )
    # Skip answers that are made from now on: else a busy cache would be purged for ever.
    before = ledger.now() - (int(parse_duration(older_than).total_seconds() * 1000) if older_than else -1)
    return EntryFilter(made_before=before, tenant=tenant, scope=scope, ids=tuple(sorted(set(ids))) if ids else None)


def _purged(ledger: Ledger, wanted: EntryFilter) -> int:
    """Purge these answers, a transaction for each part, so that nobody waits long for us. Return how many."""
    done, after = 0, 0
    while True:
        killed, following = ledger.of(Answers).purge(wanted, after, "purged by hand")
        done += killed
        if following is None:
            return done
        after = following


def _answers(count: int) -> str:
    return "one answer" if count == 1 else f"{count:,} answers"


def _unknown(job_id: str) -> None:
    say(f"{job_id}: the ledger knows no such job")
    raise typer.Exit(1)
