"""The pages *Jobs*: any job by any of its names, with its history and what may be done about it; and lists."""

import json
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Query, Request
from starlette.responses import Response

from headrace_schemas import GenerationJob
from headrace_schemas.codec import decode_job, encode_value
from headrace_schemas.errors import HeadraceError
from headrace_schemas.job import derive_job_id
from headrace_workers.cli.durations import show_time
from headrace_workers.cli.job_views import JobDetails
from headrace_workers.cli.receipts import Receipt
from headrace_workers.cli.status_views import aside_lines, step_rows, unit_rows
from headrace_workers.core.ledger.dead_letters import INGEST
from headrace_workers.core.ledger.job_status import JobView, Standing
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.pipeline.task import Job
from headrace_workers.core.scopes import JOBS_READ, JOBS_WRITE, OPERATOR
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.console.connections import ConsoleReads
from headrace_workers.features.console.frame import PART, SignedInRoute, go_to, page, visitor_of
from headrace_workers.features.console.job_lists import ENDED, STATES, UNFINISHED, JobFilter, JobList, JobLists, Place
from headrace_workers.features.console.playground import Asked, address_of, answer_of, shown, texts_of_passages
from headrace_workers.features.console.sign_in import form_of
from headrace_workers.features.console.visitors import CONSOLE
from headrace_workers.features.jobs.api.jobs import is_over
from headrace_workers.features.quality.feature import REVIEWS_WRITE
from headrace_workers.features.reviews.hooks import ReviewQueue
from headrace_workers.http.caller import Caller
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.routes import ReadsItsURL
from headrace_workers.http.services import Services, Wired, no_job

router = ReadsItsURL(prefix=f"{CONSOLE}/jobs", route_class=SignedInRoute, include_in_schema=False)
_MOST_NAMED: Final = 20
_MOST_LETTERS: Final = 20
_LONGEST_REASON: Final = 500
_SHOWN: Final = 20_000  # characters of a request as JSON
_Name = Annotated[str, Query(max_length=1_024)]
_Short = Annotated[str, Query(max_length=100)]


@dataclass(frozen=True, slots=True)
class Seen:
    """A job that its visitor may see: how it stands, and what the ledger has of it and of its failures."""

    job_id: str
    standing: Standing
    view: JobView | None
    units: Sequence[Any]
    letters: Sequence[Any]


def _read(ledger: Ledger, job_id: str) -> Seen | None:
    standing = ledger.standings([job_id]).get(job_id)
    if standing is None:
        return None
    view = None if standing.row is None else ledger.job(job_id)
    letters: list[Any] = ledger.dead(DeadFilter(id=job_id, replayed=True), _MOST_LETTERS, whole=False)
    return Seen(job_id, standing, view, ledger.units_of(job_id), letters)


async def seen(services: Services, caller: Caller, job_id: str) -> Seen:
    """Return a job of the caller's tenant, or of any tenant for an operator. Raise 404 if there is none."""
    reads = services.of(ConsoleReads)
    found = None
    if "\x00" not in job_id:
        found = await reads.ask(services.timeouts.ledger, _read, reads.ledger, job_id)
    if found is None or (found.standing.tenant != caller.tenant and not caller.may(OPERATOR)):
        raise no_job()
    return found


def _named(ledger: Ledger, name: str, tenants: Sequence[str | None]) -> list[str]:
    """Return the jobs of this name, and the refused records of this name, of these tenants (None: of any)."""
    derived = [derive_job_id(tenant, name) for tenant in tenants if tenant is not None]
    standing = ledger.standings([name, *derived])
    if whole := [job_id for job_id, item in standing.items() if None in tenants or item.tenant in tenants]:
        return whole
    ids = [job_id for tenant in tenants for job_id in ledger.named(name, tenant, _MOST_NAMED)]
    for tenant in tenants if not ids else ():
        letters: list[Any] = ledger.dead(DeadFilter(id=name, tenant=tenant, replayed=True), _MOST_NAMED, whole=False)
        ids += [letter.job_id or letter.refers_to for letter in letters if letter.job_id or letter.refers_to]
    return [*dict.fromkeys(ids)]


async def _asked(services: Services, caller: Caller, found: Seen) -> tuple[Asked, Job | None]:
    """Return the job as the playground shows it, and what was asked for."""
    row, job, receipt = found.standing.row, None, None
    may_read = caller.may_read_texts(held=found.standing.is_held)
    if may_read and found.view is not None and found.view.job.payload:
        with suppress(HeadraceError):  # the page shows all the rest
            job = decode_job(found.view.job.kind, bytes(found.view.job.payload))
    if row is not None and row.end is not None:
        with suppress(HeadraceError):
            receipt = Receipt.decode(*row.end)
    elif found.standing.refused is not None:
        receipt = Receipt(found.standing.refused)
    generation = job if isinstance(job, GenerationJob) else None
    is_own = found.standing.tenant == caller.tenant
    texts = await texts_of_passages(services, caller, answer_of(receipt)) if is_own else {}
    return Asked(found.job_id, found.standing, generation, receipt, texts, may_read), job


async def _values(request: Request, services: Services, caller: Caller, found: Seen) -> dict[str, Any]:
    asked, job = await _asked(services, caller, found)
    details = None if found.view is None else JobDetails.of(found.view, list(found.units))
    is_done = found.standing.row is not None and found.standing.row.state == "done"
    return {
        **shown(asked, address_of(request, services), may_write=caller.may(JOBS_WRITE)),
        "as_json": "" if job is None else _pretty(job),
        "is_own": found.standing.tenant == caller.tenant,
        "may_replay": caller.may(OPERATOR),
        "facts_of_job": _facts(found, details),
        "steps": [] if details is None else step_rows(details),
        "units": [] if details is None else unit_rows(details.units),
        "aside": [] if details is None else aside_lines(details),
        "letters": found.letters,
        "ingest": INGEST,
        "can_be_reviewed": is_done and found.standing.tenant == caller.tenant and caller.may(REVIEWS_WRITE),
        "can_be_wrong": is_done,
    }


def _pretty(job: Job) -> str:
    text = json.dumps(json.loads(encode_value(job)), ensure_ascii=False, indent=2)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}\n… and {len(text) - _SHOWN:,} characters more"


def _facts(found: Seen, details: JobDetails | None) -> list[tuple[str, str]]:
    facts = [("tenant", found.standing.tenant), ("accepted", show_time(found.standing.accepted_at))]
    if details is not None and found.view is not None:
        facts += [
            ("kind", details.kind or "unknown"),
            *([("ended", show_time(details.ended_at))] if details.ended_at else []),
            *([("replays", str(details.replays))] if details.replays else []),
            *([("correlation id", details.correlationid)] if details.correlationid else []),
            *([("application", found.view.job.application)] if found.view.job.application else []),
        ]
    return facts


@router.get("")
async def without_slash(request: Request) -> Response:
    """Lead to the lists."""
    return go_to(request, "jobs/")


@router.get("/")
async def find(
    request: Request,
    services: Wired,
    name: _Name = "",
    state: _Short = "",
    model: _Short = "",
    application: _Short = "",
    tenant: _Short = "",
    after: _Short = "",
) -> Response:
    """Lead to the job of a name, or show lists."""
    caller = visitor_of(request, JOBS_READ)
    may_all, name = caller.may(OPERATOR), name.strip()
    model, application, tenant, after = (
        text.replace("\x00", "").strip() for text in (model, application, tenant, after)
    )
    reads = services.of(ConsoleReads)
    named: list[str] = []
    if name and "\x00" not in name:
        tenants = [caller.tenant, None] if may_all else [caller.tenant]
        named = await reads.ask(services.timeouts.ledger, _named, reads.ledger, name, tenants)
    if len(named) == 1:
        return go_to(request, f"jobs/{named[0]}/")
    whose = (tenant or None) if may_all else caller.tenant
    states = [state] if state in STATES else [UNFINISHED, ENDED]
    place = Place.read(after) if len(states) == 1 else None
    lists: dict[str, JobList] = {}
    for item in states if not name else ():
        wanted = JobFilter(item, whose, model or None, application or None)
        lists[item] = await reads.ask(services.timeouts.ledger, reads.ledger.of(JobLists).page, wanted, place)
    fields = {"model": model, "application": application, **({"tenant": tenant} if may_all else {})}
    return page(
        request,
        "jobs.html",
        status=404 if name and not named else 200,
        name=name,
        named=named[:_MOST_NAMED],
        states=STATES,
        state=state if state in STATES else "",
        fields=fields,
        may_all=may_all,
        lists=lists,
        now=int(time.time() * 1000),
    )


@router.get("/{job_id}/")
async def show(
    request: Request,
    job_id: str,
    services: Wired,
    withdrawn: Annotated[int | None, Query(ge=0, le=1_000_000)] = None,
    sent: Annotated[str, Query(pattern="^[0-9a-f-]{0,36}$")] = "",
) -> Response:
    """Show a job."""
    caller = visitor_of(request, JOBS_READ)
    found = await seen(services, caller, job_id)
    values = await _values(request, services, caller, found)
    return page(request, "one_job.html", withdrawn=withdrawn, sent=sent, **values)


@router.get(f"/{{job_id}}/{PART}")
async def show_part(request: Request, job_id: str, services: Wired) -> Response:
    """Show the part of a job's page that changes while it runs."""
    caller = visitor_of(request, JOBS_READ)
    found = await seen(services, caller, job_id)
    return page(request, "one_job_part.html", **await _values(request, services, caller, found))


@router.post("/{job_id}/cancel")
async def cancel(request: Request, job_id: str, services: Wired) -> Response:
    """Cancel a job. One that has ended stays as it is."""
    caller = visitor_of(request, JOBS_WRITE)
    found = await seen(services, caller, job_id)
    if not is_over(found.standing):
        await services.cancel([job_id], found.standing.tenant, f"cancelled in the console by {caller.name}")
    return go_to(request, f"jobs/{job_id}/")


@router.post("/{job_id}/replay")
async def replay(request: Request, job_id: str, services: Wired) -> Response:
    """Replay a dead letter of a job, once: as `headrace dead replay` does it, which is for operators, too."""
    caller = visitor_of(request, OPERATOR)
    found = await seen(services, caller, job_id)
    letter = await _field(request, "letter")
    if letter not in {item.id for item in found.letters}:
        raise Refusal(Why.NOT_FOUND, "this job has no dead letter of this id")
    _, cut = await services.ask(services.ledger.replay, DeadFilter(id=letter), 1)
    if cut:
        raise Refusal(
            Why.CONFLICT, "the ledger's copy of the record is cut, and cannot be replayed: send the job again"
        )
    services.ring()
    return go_to(request, f"jobs/{job_id}/")


@router.post("/{job_id}/wrong")
async def wrong(request: Request, job_id: str, services: Wired) -> Response:
    """Withdraw the cached copies of the answer of a job, as `headrace cache wrong` does it."""
    caller = visitor_of(request, JOBS_WRITE)
    await seen(services, caller, job_id)
    reason = " ".join((await _field(request, "reason")).split())[:_LONGEST_REASON]
    answers = services.ledger.of(Answers)
    ids = [answer.entry_id for answer in await services.ask(answers.of_job, job_id)]
    words = f"wrong: {reason} ({caller.name})" if reason else f"wrong ({caller.name})"
    recalled = await services.ask(answers.recall, ids, words)
    if recalled.withdrawn:
        services.ring()  # who waited for it runs by itself now
    return go_to(request, f"jobs/{job_id}/?withdrawn={recalled.killed + recalled.withdrawn}")


@router.post("/{job_id}/review")
async def send_to_review(request: Request, job_id: str, services: Wired) -> Response:
    """Send the answer of a job to the review queue, however often the form is sent once."""
    caller = visitor_of(request, REVIEWS_WRITE)
    await services.standing(job_id, caller.tenant)
    enter = services.ledger.of(ReviewQueue).enter_by_hand
    return go_to(request, f"jobs/{job_id}/?sent={await services.ask(enter, caller.tenant, job_id)}")


async def _field(request: Request, name: str) -> str:
    fields: Mapping[str, str] = dict(await form_of(request))
    return fields.get(name, "").replace("\x00", "")
