"""Stored responses: the request, from the ledger, and the state of its job."""

import re
from dataclasses import dataclass
from typing import Any, Final

from headrace_schemas import GenerationJob, Message
from headrace_schemas.codec import decode_job
from headrace_schemas.job import Lane
from headrace_workers.core.ledger.job_status import Standing
from headrace_workers.features.generation.openai.references import references, with_items
from headrace_workers.features.generation.openai.request import Asker, Body
from headrace_workers.features.generation.openai.request import Request as OpenAIRequest
from headrace_workers.features.generation.openai.response_body import ended, job_id_of, response_of_item, unended
from headrace_workers.features.generation.openai.responses import PARAMETERS, continued, conversation
from headrace_workers.features.generation.store.responses import Responses
from headrace_workers.http.bodies import parsed, unparsed
from headrace_workers.http.caller import Caller
from headrace_workers.http.errors import LedgerOutage, Refusal, Why
from headrace_workers.http.openai_errors import Refused, wrong
from headrace_workers.http.services import Services
from headrace_workers.http.waiter import End, end_of

_JOB_ID: Final = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}", re.ASCII)


@dataclass(frozen=True, slots=True)
class Stored:
    """A response that was asked for: what its body says, its job without the turns before, and when (s since 1970)."""

    job_id: str
    asked: Body
    job: GenerationJob
    asked_at: float


async def keep(services: Services, caller: Caller, job_id: str, body: Body, *, should_retry: bool | None) -> float:
    """Store the request of an admitted job, and return its time (s since 1970).

    `should_retry` tells whether another try would be the same job, if the ledger does not answer.
    """
    try:
        kept = await services.ask(services.ledger.of(Responses).keep, caller.tenant, job_id, unparsed(body))
    except LedgerOutage as error:
        raise LedgerOutage(f"{error}; the job will be run", should_retry=should_retry, job_id=job_id) from error
    if kept is None:
        raise Refusal(Why.CONFLICT, "another tenant's job has this id", should_retry=False)
    return kept.asked_at / 1000


async def find(services: Services, caller: Caller, response_id: str) -> Stored:
    """Return a response of the caller's by its id. Raise 404 if there is none."""
    job_id = job_id_of(response_id)
    if job_id is None or not _JOB_ID.fullmatch(job_id):
        raise _missing()
    kept = await services.ask(services.ledger.of(Responses).find, caller.tenant, job_id)
    if kept is None:
        raise _missing()
    body = parsed(kept.body)
    # What is told of a response does not depend on the turns before it.
    job = only_job(continued(body, Asker(caller.tenant, None, Lane.INTERACTIVE), ()))
    return Stored(job_id, PARAMETERS.given(body), job, kept.asked_at / 1000)


def only_job(read: OpenAIRequest) -> GenerationJob:
    """Return the job of a response that was read."""
    (job,) = read.jobs
    assert isinstance(job, GenerationJob)  # noqa: S101 - as every response's
    return job


async def body_of(services: Services, caller: Caller, stored: Stored) -> dict[str, Any]:
    """Return the response in its present state."""
    standing = await services.standing(stored.job_id, caller.tenant)
    end = _end(standing)
    if end is not None:
        return ended(stored.asked, stored.job, stored.job_id, end, stored.asked_at)
    begun = any(step.started_at is not None for step in standing.steps)
    return unended(stored.asked, stored.job, stored.job_id, "in_progress" if begun else "queued", stored.asked_at)


async def earlier(services: Services, caller: Caller, body: Body) -> tuple[Message, ...]:
    """Return the conversation that a request continues; none if it names no response. Raise Refused if it cannot
    continue.
    """
    response_id = body.get("previous_response_id")
    if response_id is None:
        return ()
    if not isinstance(response_id, str):
        raise wrong("previous_response_id", "must be text")
    stored = await find(services, caller, response_id)
    end = _end(await services.standing(stored.job_id, caller.tenant))
    if end is None:
        raise wrong("previous_response_id", "that response has not ended yet")
    known = await services.ask(services.ledger.jobs_of, [stored.job_id])
    job = decode_job(*known[stored.job_id]) if stored.job_id in known else stored.job
    assert isinstance(job, GenerationJob)  # noqa: S101 - as every response's
    return conversation(stored.asked, job, end)


async def spelled_out(services: Services, caller: Caller, body: Body) -> Body:
    """Return the body with the items of earlier responses to which its input refers. Raise Refused if one does not
    exist.
    """
    outputs: dict[str, list[dict[str, Any]]] = {}
    items: dict[int, dict[str, Any]] = {}
    for place, id in references(body).items():
        response_id = response_of_item(id)
        if response_id not in outputs:
            outputs[response_id] = await _output(services, caller, response_id)
        found = next((item for item in outputs[response_id] if item["id"] == id), None)
        if found is None:
            words = f"input[{place}].id: no stored response of this tenant has such an item: send the item itself"
            raise Refused(words, status=404, code=Why.NOT_FOUND.code, param=f"input[{place}].id")
        items[place] = found
    return with_items(body, items)


async def _output(services: Services, caller: Caller, response_id: str) -> list[dict[str, Any]]:
    try:
        told = await body_of(services, caller, await find(services, caller, response_id))
    except Refusal as error:
        if error.why is not Why.NOT_FOUND:
            raise
        return []
    output: list[dict[str, Any]] = told["output"]
    return output


def _end(standing: Standing) -> End | None:
    row = standing.row
    if row is not None and row.end is not None:
        return end_of(*row.end)
    return standing.refused


def _missing() -> Refusal:
    return Refusal(Why.NOT_FOUND, "this tenant has no response of this id", param="response_id")
