"""Batches, as OpenAI's clients make, look at and cancel them."""

import hashlib
import json
from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query
from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row

from headrace_producers.settings import ProducerSettings
from headrace_schemas.callback import BatchCallback
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.scopes import FAMILIES, Scope
from headrace_workers.features.batches.feature import BATCHES_READ, BATCHES_WRITE
from headrace_workers.features.batches.lines import URLS
from headrace_workers.features.batches.new_batch import LONGEST_WINDOW, BatchOptions, EmptyInput, seconds_of, submit
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.batches.views import NATIVE, Batch
from headrace_workers.features.files.api import Expiry, file_of
from headrace_workers.features.webhooks.feature import WEBHOOKS_READ
from headrace_workers.features.webhooks.settings import WebhookSettings
from headrace_workers.files.service import BATCH_INPUT
from headrace_workers.http.bodies import JSONRoute
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import LedgerOutage, Refusal, Why
from headrace_workers.http.openai import ERRORS
from headrace_workers.http.paging import Page
from headrace_workers.http.services import Services, Wired

router = APIRouter(tags=["batches"], route_class=JSONRoute)

Reads = Annotated[Caller, needs(BATCHES_READ)]
Writes = Annotated[Caller, needs(BATCHES_WRITE)]

_MOST_METADATA: Final = 16
_NAME: Final = 64  # characters
_VALUE: Final = 512


class Asks(BaseModel):
    """headrace's own options of a batch."""

    model_config = ConfigDict(extra="forbid")

    max_tokens: Annotated[int | None, Field(ge=1, description="The token budget of the whole batch.")] = None
    callback: BatchCallback | None = None


class Wanted(BaseModel):
    """A batch to be run."""

    model_config = ConfigDict(extra="forbid")

    input_file_id: Annotated[str, Field(description="The id of a file with the purpose `batch`.")]
    endpoint: Annotated[str, Field(description=f"One of {', '.join(URLS)}; or {NATIVE} for headrace's own jobs.")]
    completion_window: Annotated[
        str, Field(max_length=LONGEST_WINDOW, description="`24h`, or another number of m, h or d; at most 30 days.")
    ]
    metadata: Annotated[dict[str, str] | None, Field(max_length=_MOST_METADATA)] = None
    output_expires_after: Expiry | None = None
    headrace: Asks | None = None


class BatchList(Page[Batch]):
    """Batches, a page of them, newest first."""


@router.post("/v1/batches", responses=ERRORS)
async def create(
    caller: Writes,
    services: Wired,
    wanted: Wanted,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=256,
            description="The same key of the same tenant is the same batch.",
        ),
    ] = None,
) -> Batch:
    """Run a file of requests, one on each line. A wrong line fails alone, with its number and the reason."""
    _check(caller, wanted)
    try:
        options = _options(caller, wanted)
    except ConfigurationError as error:
        raise Refusal(Why.INVALID, str(error), param="completion_window") from error
    file = await file_of(services, caller, wanted.input_file_id, "input_file_id")
    if file.purpose != BATCH_INPUT:
        raise Refusal(
            Why.INVALID,
            f"input_file_id: the file's purpose is {file.purpose!r}, and must be {BATCH_INPUT!r}",
            param="input_file_id",
        )
    batch, is_new = await _submitted(services, file, options, key)
    if not (is_new or _is(batch, file, options)):
        raise Refusal(
            Why.CONFLICT,
            f"the idempotency key belongs to {batch.id}, which has another file or other options: send another key",
            should_retry=False,
        )
    services.ring()
    return Batch.of(batch)


@router.get("/v1/batches", responses=ERRORS)
async def list_batches(
    caller: Reads,
    services: Wired,
    after: Annotated[str | None, Query(description="The id of the last batch of the previous page.")] = None,
    limit: Annotated[int, Query(ge=1, le=100, description="The number of batches on a page.")] = 20,
) -> BatchList:
    """Return the tenant's batches, newest first."""
    if after is not None:
        await _batch(services, caller, after, "after")
    rows = await services.ask(services.ledger.of(Batches).batches, caller.tenant, after, limit + 1)
    return BatchList.of(rows, limit, Batch.of)


@router.get("/v1/batches/{batch_id}", responses=ERRORS)
async def show(batch_id: str, caller: Reads, services: Wired) -> Batch:
    """Return a batch."""
    return Batch.of(await _batch(services, caller, batch_id))


@router.post("/v1/batches/{batch_id}/cancel", responses=ERRORS)
async def cancel(batch_id: str, caller: Writes, services: Wired) -> Batch:
    """Cancel a batch. Answers that are there are kept. A batch that has ended stays as it is."""
    await _batch(services, caller, batch_id)
    row = await services.ask(services.ledger.of(Batches).cancel, batch_id, caller.tenant)
    if row is None:
        raise Refusal(Why.NOT_FOUND, "batch_id: this tenant has no batch of this id", param="batch_id")
    services.ring()
    return Batch.of(row)


async def _batch(services: Services, caller: Caller, batch_id: str, param: str = "batch_id") -> Row[Any]:
    row = await services.known(services.ledger.of(Batches).batch, batch_id, caller.tenant)
    if row is None:
        raise Refusal(Why.NOT_FOUND, f"{param}: this tenant has no batch of this id", param=param)
    return row


def _check(caller: Caller, wanted: Wanted) -> None:
    """Raise Refusal for a batch that cannot be run, and for a callback that the caller's key does not allow."""
    if wanted.endpoint not in (*URLS, NATIVE):
        raise Refusal(Why.INVALID, f"endpoint: must be one of {', '.join((*URLS, NATIVE))}", param="endpoint")
    for name, value in (wanted.metadata or {}).items():
        if not 0 < len(name) <= _NAME or len(value) > _VALUE or "\x00" in name + value:
            raise Refusal(
                Why.INVALID, f"metadata: names have 1 to {_NAME} characters, values {_VALUE} at most", param="metadata"
            )
    callback = wanted.headrace.callback if wanted.headrace else None
    if callback is not None and callback.endpoint is not None:
        caller.need(WEBHOOKS_READ, "headrace.callback.endpoint")


async def _submitted(
    services: Services, file: Row[Any], options: BatchOptions, key: str | None
) -> tuple[Row[Any], bool]:
    """Submit a batch; return it, and True unless its key had one before."""
    named = None if key is None else hashlib.sha256(f"http {key}".encode()).hexdigest()
    try:
        reach = services.settings.of(WebhookSettings).reach
        return await services.ask(submit, services.ledger, file, options, named, reach)
    except EmptyInput as error:
        raise Refusal(Why.INVALID, str(error), param="input_file_id") from error
    except ConfigurationError as error:
        raise Refusal(Why.INVALID, str(error)) from error
    except LedgerOutage as error:  # it may be there all the same: a second try would be a second batch
        raise LedgerOutage(str(error), should_retry=key is not None) from error


def _is(batch: Row[Any], file: Row[Any], options: BatchOptions) -> bool:
    """Return True if a batch has this input file and these options."""
    callback = None if options.callback is None else options.callback.model_dump_json(exclude_defaults=True)
    kept = (batch.input_file, batch.endpoint, batch.window, batch.max_tokens, json.loads(batch.metadata))
    requested = (file.id, options.endpoint, options.window_text, options.max_tokens, dict(options.metadata))
    return kept == requested and batch.callback == callback


def _options(caller: Caller, wanted: Wanted) -> BatchOptions:
    usual = ProducerSettings.from_env()
    return BatchOptions(
        tenant=caller.tenant,
        defaults=Defaults(usual.model, {"tenant": caller.tenant, "lane": "batch"}, embedder=usual.embedder),
        endpoint=None if wanted.endpoint == NATIVE else wanted.endpoint,
        window=seconds_of(wanted.completion_window),
        window_text=wanted.completion_window,
        max_tokens=wanted.headrace.max_tokens if wanted.headrace else None,
        callback=wanted.headrace.callback if wanted.headrace else None,
        metadata=wanted.metadata or {},
        withheld=tuple(family for family in FAMILIES if not caller.may(Scope(f"{family}:read"))),
        output_seconds=wanted.output_expires_after.seconds if wanted.output_expires_after else None,
    )
