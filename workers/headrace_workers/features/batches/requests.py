"""Lines in the form of OpenAI's Batch API: requests that become jobs, and answers in the shape of OpenAI's.

`features/generation/openai` reads requests and writes answers. The same line gives the same jobs, so that it
can be read once more when it is answered.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import job_type, kind_of
from headrace_schemas.job import JudgedJob, Lane
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.log import Action, log
from headrace_workers.features.batches.line_admission import Admit, NoJob, Terms, admitted_job
from headrace_workers.features.generation.openai.endpoint import ENDPOINTS, Asker, Request
from headrace_workers.http.openai_errors import Refused, refused

# What OpenAI's own Batch API takes, and the legacy endpoint.
URLS: Final = tuple(ENDPOINTS)
_FIELDS: Final = frozenset({"custom_id", "method", "url", "body"})
_WRONG: Final = "invalid_value"
_FAULT: Final = "internal"


@dataclass(frozen=True, slots=True)
class RequestJobs:
    """The jobs of a request, and whether a model is to judge their answers."""

    jobs: tuple[NewJob, ...]
    judged: bool


def is_request(line: Mapping[str, Any]) -> bool:
    """Return True where a line is meant as a request, and is no job of headrace."""
    return "body" in line and ("custom_id" in line or "url" in line)


def jobs_of_request(line: Mapping[str, Any], number: int, terms: Terms, admit: Admit) -> RequestJobs:
    """Return the jobs that a line's request becomes. Raise NoJob where it is refused."""
    request = read(line, number, terms)
    if request.stream:
        raise NoJob("unsupported_parameter", "body.stream: a batch has no streams; leave it out", "body.stream")
    jobs = []
    for job in request.jobs:
        kind = job_type(kind_of(job))
        assert kind is not None  # noqa: S101 - of a kind of job
        try:
            jobs.append(admitted_job(kind, encode_value(job), number, terms, admit))
        except NoJob as error:
            raise _as_request(error, request) from None
    return RequestJobs(tuple(jobs), any(isinstance(job, JudgedJob) and job.asks_judge for job in request.jobs))


def _as_request(error: NoJob, request: Request) -> NoJob:
    """Return the refusal of a job in OpenAI's words: its code, and the parameter of the request's body."""
    if error.error is None:
        return error
    found = refused(error.error, request.prompt, request.names)
    param = None if found.param is None else f"body.{found.param}"
    return NoJob(found.code or error.code, str(error), param)


def read(line: Mapping[str, Any], number: int, terms: Terms) -> Request:
    """Return the request that a line holds. Raise NoJob where it holds none that can be answered."""
    if missing := sorted(_FIELDS - line.keys()):
        words = f"{', '.join(missing)} is missing: a request has custom_id, method, url and body"
        raise NoJob("missing_required_parameter", words, missing[0])
    if unknown := sorted(line.keys() - _FIELDS):
        words = f"{unknown[0]}: a request has custom_id, method, url and body, and nothing else"
        raise NoJob("unknown_parameter", words, unknown[0])
    if line["custom_id"] is None:
        raise NoJob(_WRONG, "custom_id: must be a text", "custom_id")
    if line["method"] != "POST":
        raise NoJob(_WRONG, f"method is {line['method']!r}; it must be POST", "method")
    url, body = line["url"], line["body"]
    if terms.endpoint is not None and url != terms.endpoint:
        raise NoJob(_WRONG, f"url is {url!r}, and all lines of this batch go to {terms.endpoint}", "url")
    endpoint = ENDPOINTS.get(url) if isinstance(url, str) else None
    if endpoint is None:
        raise NoJob(_WRONG, f"url is {url!r}; it may be {', '.join(URLS)}", "url")
    if not isinstance(body, dict):
        raise NoJob(_WRONG, "body: must be a JSON object", "body")
    try:
        return endpoint(body, asker(number, terms))
    except Refused as error:
        param = "body" if error.param is None else f"body.{error.param}"
        raise NoJob(error.code or _WRONG, f"body: {error}", param) from None
    except Exception as error:  # of ours: one line that meets it must not stop the batch
        log("batches", logging.ERROR, Action.STEP_FAILED, f"a line could not be read: {type(error).__name__}",
            batch=terms.batch_id, line=number)  # fmt: skip
        raise NoJob(_FAULT, f"headrace failed to read it: {type(error).__name__}") from error


def asker(number: int, terms: Terms) -> Asker:
    """Return who asks by a line."""
    deadline = datetime.fromtimestamp(terms.expires_at / 1000, UTC)
    return Asker(tenant=terms.tenant, key=terms.key(number), lane=Lane.BATCH, deadline=deadline)


def job_ids(request: Request) -> list[str]:
    """Return the ids of a request's jobs, in order."""
    return [job.job_id("") for job in request.jobs]
