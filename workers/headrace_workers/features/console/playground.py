"""The playground: ask a question, watch its steps, and see the answer with its receipt."""

import secrets
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any, Final

from fastapi import Query, Request
from starlette.responses import Response

from headrace_schemas import Answer, GenerationJob, Result
from headrace_schemas.codec import decode_job
from headrace_schemas.errors import HeadraceError
from headrace_workers.cli.receipts import Receipt, moderation, passages
from headrace_workers.core.ledger.job_status import Standing
from headrace_workers.core.scopes import JOBS_READ, JOBS_WRITE
from headrace_workers.features.console import receipt as views
from headrace_workers.features.console.form import FORMATS, Form, Turn, code_of
from headrace_workers.features.console.frame import PART, SignedInRoute, go_to, page, visitor_of
from headrace_workers.features.console.sign_in import form_of
from headrace_workers.features.console.visitors import CONSOLE, Visitors
from headrace_workers.features.generation.api.models import named
from headrace_workers.features.jobs.api.jobs import is_over, jobs_of
from headrace_workers.features.knowledge.feature import KNOWLEDGE_READ
from headrace_workers.features.knowledge.store.documents import KnowledgeBases
from headrace_workers.http.caller import Caller
from headrace_workers.http.errors import Refusal, refusal_of
from headrace_workers.http.routes import ReadsItsURL
from headrace_workers.http.services import Services, Wired

router = ReadsItsURL(prefix=f"{CONSOLE}/playground", route_class=SignedInRoute, include_in_schema=False)
_KINDS: Final = {"generator": "Models", "chain": "Chains of models", "application": "Applications"}


@dataclass(frozen=True, slots=True)
class Choices:
    """Names that the visitor may choose: models by their kind, and knowledge bases."""

    models: Sequence[tuple[str, Sequence[str]]]
    knowledge: Sequence[str]


async def choices(services: Services, caller: Caller) -> Choices:
    """Return what jobs of the caller's tenant may name, as `GET /v1/models` lists it, and its knowledge bases."""
    found: dict[str, list[str]] = {kind: [] for kind in _KINDS}
    for item in await named(services, caller):
        found.get(item["headrace"]["kind"], []).append(item["id"])
    bases: Sequence[Any] = ()
    if caller.may(KNOWLEDGE_READ):
        bases = await services.ask(services.ledger.of(KnowledgeBases).bases, caller.tenant)
    return Choices([(_KINDS[kind], names) for kind, names in found.items() if names], [row.knowledge for row in bases])


@dataclass(frozen=True, slots=True)
class Asked:
    """A job as the playground shows it. `job` is absent until the ledger has it, for other kinds of jobs, and where the
    caller may not read its texts. `passages` are the texts that the answer was given, by their keys, as far as the
    caller may read them.
    """

    job_id: str
    standing: Standing
    job: GenerationJob | None
    receipt: Receipt | None
    passages: Mapping[str, str]
    may_read: bool

    @property
    def answer(self) -> str | None:
        """Return the text of the answer, if there is one to show."""
        return self.receipt.text if self.receipt is not None else None


async def asked(services: Services, caller: Caller, job_id: str) -> Asked:
    """Return a job of the caller's. Raise 404 if there is none."""
    standing = await services.standing(job_id, caller.tenant)
    row, job, receipt = standing.row, None, None
    may_read = caller.may_read_texts(held=standing.is_held)
    if row is not None:
        view = await services.ask(services.ledger.job, job_id) if may_read else None
        read = decode_job(view.job.kind, bytes(view.job.payload)) if view is not None else None
        job = read if isinstance(read, GenerationJob) else None
        receipt = None if row.end is None else Receipt.decode(*row.end)
    elif standing.refused is not None:
        receipt = Receipt(standing.refused)
    passages = await texts_of_passages(services, caller, answer_of(receipt))
    return Asked(job_id, standing, job, receipt, passages, may_read)


def answer_of(receipt: Receipt | None) -> Answer | None:
    """Return the answer of a receipt, if there is one."""
    return receipt.event.answer if receipt is not None and isinstance(receipt.event, Result) else None


async def texts_of_passages(services: Services, caller: Caller, answer: Answer | None) -> Mapping[str, str]:
    """Return the texts that an answer was given, by their keys, as far as the caller may read them."""
    if answer is None or answer.grounding is None or not answer.grounding.citations or not caller.may(KNOWLEDGE_READ):
        return {}
    keys = {citation.chunk: citation.document for citation in answer.grounding.citations}
    return await services.ask(services.ledger.of(KnowledgeBases).texts, caller.tenant, answer.grounding.knowledge, keys)


def shown(asked: Asked, address: str, *, may_write: bool) -> dict[str, Any]:
    """Return the values of the part of the page that changes while the job runs."""
    bars, total = views.waterfall(asked.standing, int(time.time() * 1000))
    receipt, event = asked.receipt, asked.receipt.event if asked.receipt else None
    values: dict[str, Any] = {
        "job_id": asked.job_id,
        "job": asked.job,
        "may_read": asked.may_read,
        "over": is_over(asked.standing),
        "may_write": may_write,
        "bars": bars,
        "total": total,
        "state": receipt.status if receipt else "running" if bars else "accepted",
        "code": code_of(asked.job, address) if asked.job else (),
        "event": None,
        "missing": "" if receipt is None else views.missing(receipt),
    }
    if isinstance(event, Result):
        answer = event.answer
        values |= {
            "event": event,
            "text": views.text_of(event),
            "calls": answer.tool_calls if answer else (),
            "facts": views.facts(event),
            "verdict": moderation(event.moderation),
            "judgements": views.judgements(event.judge.scores),
            "grounding": answer.grounding if answer else None,
            "passages": asked.passages,
            "attempts": made.attempts if (made := answer or event.decisions) else (),
            "no_passages": "" if answer is None or answer.grounding is None else (*passages(answer), "")[0],
        }
    return values


async def show_form(
    request: Request, services: Services, caller: Caller, form: Form, *, fault: Refusal | None = None
) -> Response:
    """Return the page with the form, and what is wrong with it."""
    empty = [Turn("user"), Turn("assistant")]
    return page(
        request,
        "playground.html",
        status=fault.why.status if fault else 200,
        form=form.with_nonce(secrets.token_hex(16)),
        turns=[*form.turns, *empty],
        choices=await choices(services, caller),
        formats=FORMATS,
        fault=str(fault) if fault else "",
    )


@router.get("")
async def without_slash(request: Request) -> Response:
    """Lead to the form."""
    return go_to(request, "playground/")


@router.get("/")
async def ask(
    request: Request,
    services: Wired,
    again: Annotated[str, Query(max_length=36)] = "",
    after: Annotated[str, Query(max_length=36)] = "",
) -> Response:
    """Show the form: empty, with the request of the job `again`, or with the conversation of the job `after`."""
    caller = visitor_of(request, JOBS_READ)
    form = Form()
    if again or after:
        found = await asked(services, caller, again or after)
        if found.job is not None:
            form = Form.of(found.job, answer=(found.answer or "") if after else None)
    return await show_form(request, services, caller, form)


@router.post("/")
async def send(request: Request, services: Wired) -> Response:
    """Send the job that the form asks for, by the same admission as `POST /v1/jobs`."""
    caller = visitor_of(request, JOBS_WRITE)
    form = Form.read(await form_of(request))
    try:
        document = form.document()
        jobs = jobs_of(document, caller.tenant, form.key(document), kind="generation")
        (job_id,) = await services.admission.submit(caller, jobs)
    except HeadraceError as error:
        return await show_form(request, services, caller, form, fault=refusal_of(error))
    return go_to(request, f"playground/{job_id}/")


@router.get("/{job_id}/")
async def show(request: Request, job_id: str, services: Wired) -> Response:
    """Show a job: what was asked, how far it is, and the answer with its receipt."""
    caller = visitor_of(request, JOBS_READ)
    found = await asked(services, caller, job_id)
    values = shown(found, address_of(request, services), may_write=caller.may(JOBS_WRITE))
    return page(request, "job.html", **values)


@router.get(f"/{{job_id}}/{PART}")
async def show_part(request: Request, job_id: str, services: Wired) -> Response:
    """Show the part of a job's page that changes while it runs."""
    caller = visitor_of(request, JOBS_READ)
    found = await asked(services, caller, job_id)
    return page(
        request, "progress.html", **shown(found, address_of(request, services), may_write=caller.may(JOBS_WRITE))
    )


@router.post("/{job_id}/cancel")
async def cancel(request: Request, job_id: str, services: Wired) -> Response:
    """Cancel a job. One that has ended stays as it is."""
    caller = visitor_of(request, JOBS_WRITE)
    if not is_over(await services.standing(job_id, caller.tenant)):
        await services.cancel([job_id], caller.tenant, "cancelled in the console")
    return go_to(request, f"playground/{job_id}/")


def address_of(request: Request, services: Services) -> str:
    """Return the address of this gateway for code that calls it."""
    return services.of(Visitors).address(request) or str(request.base_url).rstrip("/")
