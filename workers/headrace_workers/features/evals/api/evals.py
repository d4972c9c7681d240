"""Evals and their runs over HTTP, as OpenAI's clients make, start, follow, cancel and remove them."""

import asyncio
import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from sqlalchemy import Row

from headrace_schemas.errors import InvalidRecord, UnknownModel
from headrace_workers.features.batches.settings import BatchSettings
from headrace_workers.features.evals.api.shapes import (
    EvalChange,
    EvalDeleted,
    EvalList,
    EvalShape,
    ItemList,
    ItemShape,
    NewEvalBody,
    NewRunBody,
    RunDeleted,
    RunList,
    RunShape,
    number_of,
)
from headrace_workers.features.evals.data_source import Asks, data_source_of
from headrace_workers.features.evals.eval_plan import EvalPlan, item_schema_of, models_of, reads_sample
from headrace_workers.features.evals.feature import EVALS_READ, EVALS_WRITE
from headrace_workers.features.evals.graders import graders_of
from headrace_workers.features.evals.store import Evals, NewEval, NewRun
from headrace_workers.features.evals.templates import SAMPLED
from headrace_workers.features.files.api import file_of, stored
from headrace_workers.files.service import Files, new_id
from headrace_workers.http.bodies import JSONRoute
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import LedgerOutage, Refusal, Why
from headrace_workers.http.openai import ERRORS, Refused, refused, wrong
from headrace_workers.http.paging import PAGE, After, Limit, Order
from headrace_workers.http.services import Services, Wired
from headrace_workers.models.structured.schemas import check_format
from headrace_workers.runtime.settings import GatewaySettings

router = APIRouter(tags=["evals"], route_class=JSONRoute)

Reads = Annotated[Caller, needs(EVALS_READ)]
Writes = Annotated[Caller, needs(EVALS_WRITE)]


@router.post("/v1/evals", responses=ERRORS)
async def create(caller: Writes, services: Wired, wanted: NewEvalBody) -> EvalShape:
    """Create an eval: the schema of its items and its testing criteria. Unsupported parameters are refused by name."""
    item_schema_of(wanted.data_source_config)
    samples = wanted.data_source_config.get("include_sample_schema")
    graders = graders_of(wanted.testing_criteria)
    check_models(services, caller.tenant, models_of(graders))
    if reads_sample(graders) and not samples:
        raise wrong("data_source_config.include_sample_schema", f"must be true: a grader reads {{{{{SAMPLED}}}}}")
    new = NewEval(
        id=new_id("eval_"),
        tenant=caller.tenant,
        name=wanted.name or "",
        data_source_config=json.dumps(wanted.data_source_config),
        testing_criteria=json.dumps(wanted.testing_criteria),
        metadata=json.dumps(wanted.metadata or {}),
    )
    try:
        return EvalShape.of(await services.ask(services.ledger.of(Evals).create, new))
    except LedgerOutage as error:  # it may be there all the same: a second try would be a second eval
        raise LedgerOutage(str(error), should_retry=False) from error


@router.get("/v1/evals", responses=ERRORS)
async def list_evals(
    caller: Reads,
    services: Wired,
    limit: Limit = PAGE,
    order: Order = "asc",
    after: After = None,
    order_by: Annotated[
        Literal["created_at", "updated_at"], Query(description="The order: by creation, or by the last change.")
    ] = "created_at",
) -> EvalList:
    """Return the tenant's evals."""
    if after is not None and await services.ask(services.ledger.of(Evals).eval, after, caller.tenant) is None:
        raise InvalidRecord("after: this tenant has no eval of this id", param="after")
    part = await services.ask(
        services.ledger.of(Evals).evals, caller.tenant, after=after, limit=limit, newest=order == "desc",
        by_change=order_by == "updated_at",
    )  # fmt: skip
    return EvalList.of(part.rows, limit, EvalShape.of, more=part.more)


@router.get("/v1/evals/{eval_id}", responses=ERRORS)
async def retrieve(eval_id: str, caller: Reads, services: Wired) -> EvalShape:
    """Return an eval."""
    return EvalShape.of(await eval_of(services, caller, eval_id))


@router.post("/v1/evals/{eval_id}", responses=ERRORS)
async def change(eval_id: str, caller: Writes, services: Wired, wanted: EvalChange) -> EvalShape:
    """Change the name or the metadata of an eval. Its data source and testing criteria cannot change."""
    values = {}
    if wanted.name is not None:
        values["name"] = wanted.name
    if wanted.metadata is not None:
        values["metadata"] = json.dumps(wanted.metadata)
    await eval_of(services, caller, eval_id)
    row = await services.ask(services.ledger.of(Evals).change, eval_id, caller.tenant, values)
    if row is None:
        raise no_eval()
    return EvalShape.of(row)


@router.delete("/v1/evals/{eval_id}", responses=ERRORS)
async def delete(eval_id: str, caller: Writes, services: Wired) -> EvalDeleted:
    """Delete an eval with its runs, which must have ended."""
    await eval_of(services, caller, eval_id)
    await services.ask(services.ledger.of(Evals).remove, eval_id, caller.tenant)
    return EvalDeleted(eval_id=eval_id)


async def eval_of(services: Services, caller: Caller, eval_id: str) -> Row[Any]:
    """Return an eval of the caller's. Raise 403 if the caller may read none, 404 if there is none of this id."""
    caller.need(EVALS_READ)
    row = await services.known(services.ledger.of(Evals).eval, eval_id, caller.tenant)
    if row is None:
        raise no_eval()
    return row


def check_models(services: Services, tenant: str, named: Mapping[str, str]) -> None:
    """Raise Refused, which names the first of these places whose model this tenant does not have."""
    for place, alias in named.items():
        try:
            services.rules.check_model(alias, tenant)
        except UnknownModel as error:
            found = refused(error)
            raise Refused(f"{place}: {found}", status=found.status, code=found.code, param=place) from error


def no_eval() -> Refusal:
    """Return the refusal of a request for an eval that its tenant does not have."""
    return Refusal(Why.NOT_FOUND, "this tenant has no eval of this id", param="eval_id")


_PURPOSE = "evals"
State = Literal["queued", "in_progress", "canceling", "completed", "failed", "canceled"]


@router.post("/v1/evals/{eval_id}/runs", responses=ERRORS)
async def create_run(eval_id: str, caller: Writes, services: Wired, wanted: NewRunBody) -> RunShape:
    """Run an eval on each row of a data source. Content that comes with the request becomes a file."""
    of = await eval_of(services, caller, eval_id)
    source = data_source_of(wanted.data_source)
    schema = item_schema_of(json.loads(of.data_source_config))
    graders = graders_of(json.loads(of.testing_criteria))
    plan = EvalPlan.put_together(graders, source, schema)
    models = {} if source.asks is None else {"data_source.model": source.asks.model}
    if source.asks is not None and await services.admission.is_application(caller.tenant, source.asks.model):
        models = {}
    check_models(services, caller.tenant, models | models_of(graders))
    if source.asks is not None:
        await _check_format(services, caller, source.asks)
    await services.ask(services.ledger.of(Evals).check_run, caller.tenant)  # before a file is made for it
    if source.content is not None:
        rows = source.content
        await asyncio.get_running_loop().run_in_executor(services.executor, _hold, plan, rows)
        lines = (json.dumps(row).encode() + b"\n" for row in rows)
        file = await stored(
            services,
            caller,
            lambda _: services.of(Files).add(
                lines, tenant=caller.tenant, purpose=_PURPOSE, name=f"{eval_id}.jsonl",
                keep=services.settings.of(BatchSettings).files_retention,
            ),
        )  # fmt: skip
    else:
        file = await file_of(services, caller, source.file_id or "", "data_source.source.id")
    kept = {**wanted.data_source, "source": {"type": "file_id", "id": file.id}, "item_schema": schema}
    new = NewRun(
        id=new_id("evalrun_"),
        name=wanted.name or "",
        data_source=json.dumps(kept),
        metadata=json.dumps(wanted.metadata or {}),
    )
    try:
        found = await services.ask(services.ledger.of(Evals).start, eval_id, caller.tenant, new)
    except LedgerOutage as error:  # it may be there all the same: a second try would be a second run
        raise LedgerOutage(str(error), should_retry=False) from error
    if found is None:
        raise no_eval()
    return _shape(found, services)


@router.get("/v1/evals/{eval_id}/runs", responses=ERRORS)
async def list_runs(
    eval_id: str,
    caller: Reads,
    services: Wired,
    limit: Limit = PAGE,
    order: Order = "asc",
    after: After = None,
    status: Annotated[State | None, Query(description="Only runs with this status.")] = None,
) -> RunList:
    """Return the runs of an eval."""
    await eval_of(services, caller, eval_id)
    if after is not None:
        await _run(services, caller, eval_id, after)
    part = await services.ask(
        services.ledger.of(Evals).runs, eval_id, caller.tenant, after=after, limit=limit, newest=order == "desc",
        state=status,
    )  # fmt: skip
    return RunList.of(part.rows, limit, lambda row: _shape(row, services), more=part.more)


@router.get("/v1/evals/{eval_id}/runs/{run_id}", responses=ERRORS)
async def retrieve_run(eval_id: str, run_id: str, caller: Reads, services: Wired) -> RunShape:
    """Return a run."""
    return _shape(await _run(services, caller, eval_id, run_id), services)


@router.post("/v1/evals/{eval_id}/runs/{run_id}/cancel", responses=ERRORS)
async def cancel_run(eval_id: str, run_id: str, caller: Writes, services: Wired) -> RunShape:
    """Cancel a run. Items that are judged are kept. A run that has ended stays as it is."""
    await _run(services, caller, eval_id, run_id)
    row = await services.ask(services.ledger.of(Evals).cancel, eval_id, run_id, caller.tenant)
    if row is None:
        raise _no_run()
    return _shape(row, services)


@router.delete("/v1/evals/{eval_id}/runs/{run_id}", responses=ERRORS)
async def delete_run(eval_id: str, run_id: str, caller: Writes, services: Wired) -> RunDeleted:
    """Delete a run that has ended, with the results of its items."""
    await _run(services, caller, eval_id, run_id)
    await services.ask(services.ledger.of(Evals).remove_run, eval_id, run_id, caller.tenant)
    return RunDeleted(run_id=run_id)


@router.get("/v1/evals/{eval_id}/runs/{run_id}/output_items", responses=ERRORS)
async def list_items(
    eval_id: str,
    run_id: str,
    caller: Reads,
    services: Wired,
    limit: Limit = PAGE,
    order: Order = "asc",
    after: After = None,
    status: Annotated[
        Literal["pass", "fail", "error"] | None, Query(description="Only items with this status.")
    ] = None,
) -> ItemList:
    """Return the results of the items that have ended, in the order of their rows."""
    run = await _run(services, caller, eval_id, run_id)
    behind = None if after is None else number_of(after, run.id)
    if after is not None and behind is None:
        raise InvalidRecord("after: this run has no item of this id", param="after")
    part = await services.ask(
        services.ledger.of(Evals).items, run.number, after=behind, limit=limit, newest=order == "desc", status=status
    )
    return ItemList.of(part.rows, limit, lambda row: ItemShape.of(row, run), more=part.more)


@router.get("/v1/evals/{eval_id}/runs/{run_id}/output_items/{output_item_id}", responses=ERRORS)
async def show_item(eval_id: str, run_id: str, output_item_id: str, caller: Reads, services: Wired) -> ItemShape:
    """Return the result of one item."""
    run = await _run(services, caller, eval_id, run_id)
    number = number_of(output_item_id, run.id)
    row = None if number is None else await services.ask(services.ledger.of(Evals).item, run.number, number)
    if row is None:
        raise Refusal(Why.NOT_FOUND, "this run has no item of this id that has ended", param="output_item_id")
    return ItemShape.of(row, run)


async def _check_format(services: Services, caller: Caller, asks: Asks) -> None:
    """Raise Refused where no answer can have the format that all items ask for."""
    if asks.output is None:
        return
    try:
        await services.admission.examinations.run(caller.tenant, partial(check_format, asks.output, caller.tenant))
    except InvalidRecord as error:
        raise refused(error, names=asks.names) from error


def _hold(plan: EvalPlan, rows: Sequence[Mapping[str, Any]]) -> None:
    """Raise Refused, which names the first row that does not match the eval's schema."""
    for place, row in enumerate(rows):
        try:
            plan.schema.hold(row["item"])
        except ValueError as error:
            raise wrong(f"data_source.source.content[{place}].item", str(error)) from None


async def _run(services: Services, caller: Caller, eval_id: str, run_id: str) -> Row[Any]:
    row = await services.known(services.ledger.of(Evals).run, eval_id, run_id, caller.tenant)
    if row is None:
        raise _no_run()
    return row


def _shape(row: Row[Any], services: Services) -> RunShape:
    return RunShape.of(row, services.settings.of(GatewaySettings).public_url)


def _no_run() -> Refusal:
    return Refusal(Why.NOT_FOUND, "this tenant has no run of this id", param="run_id")
