"""Evals, as OpenAI's clients make, find, change and remove them."""

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal

from fastapi import APIRouter, Query
from sqlalchemy import Row

from headrace_schemas.errors import InvalidRecord, UnknownModel
from headrace_workers.features.evals.api.eval_shapes import EvalChange, EvalDeleted, EvalList, EvalShape, NewEvalBody
from headrace_workers.features.evals.eval_plan import item_schema_of, models_of, reads_sample
from headrace_workers.features.evals.feature import EVALS_READ, EVALS_WRITE
from headrace_workers.features.evals.graders import graders_of
from headrace_workers.features.evals.settings import EvalSettings
from headrace_workers.features.evals.store.eval_limits import EvalBounds
from headrace_workers.features.evals.store.evals import Evals, NewEval
from headrace_workers.features.evals.template_fields import SAMPLED
from headrace_workers.features.files.file_service import new_id
from headrace_workers.http.bodies import JSONRoute
from headrace_workers.http.caller import Caller, needs
from headrace_workers.http.errors import LedgerOutage, Refusal, Why
from headrace_workers.http.openai_errors import Refused, refused, wrong
from headrace_workers.http.openai_shapes import ERRORS
from headrace_workers.http.paging import PAGE, After, Limit, Order
from headrace_workers.http.services import Services, Wired

router = APIRouter(tags=["evals"], route_class=JSONRoute)

Reads = Annotated[Caller, needs(EVALS_READ)]
Writes = Annotated[Caller, needs(EVALS_WRITE)]


@router.post("/v1/evals", responses=ERRORS)
async def create(caller: Writes, services: Wired, wanted: NewEvalBody) -> EvalShape:
    """Create an eval: the schema of its items and its testing criteria. Unsupported parameters are refused by name."""
    item_schema_of(wanted.data_source_config)
    samples = wanted.data_source_config.get("include_sample_schema")
    graders = graders_of(wanted.testing_criteria)
    check_models(services, models_of(graders))
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
        return EvalShape.of(await services.ask(services.ledger.of(Evals).create, new, bounds_of(services)))
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
    found = await services.ask(
        services.ledger.of(Evals).evals, caller.tenant, after=after, limit=limit, newest=order == "desc",
        by_change=order_by == "updated_at",
    )  # fmt: skip
    return EvalList.of(found.rows, limit, EvalShape.of, more=found.more)


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
    found = await services.ask(services.ledger.of(Evals).change, eval_id, caller.tenant, values)
    if found is None:
        raise no_eval()
    return EvalShape.of(found)


@router.delete("/v1/evals/{eval_id}", responses=ERRORS)
async def delete(eval_id: str, caller: Writes, services: Wired) -> EvalDeleted:
    """Delete an eval with its runs, which must have ended."""
    await eval_of(services, caller, eval_id)
    await services.ask(services.ledger.of(Evals).remove, eval_id, caller.tenant)
    return EvalDeleted(eval_id=eval_id)


async def eval_of(services: Services, caller: Caller, eval_id: str) -> Row[Any]:
    """Return an eval of the caller's. Raise 403 if the caller may read none, 404 if there is none of this id."""
    caller.need(EVALS_READ)
    found = await services.known(services.ledger.of(Evals).eval, eval_id, caller.tenant)
    if found is None:
        raise no_eval()
    return found


def check_models(services: Services, named: Mapping[str, str]) -> None:
    """Raise Refused, which names the first of these places whose model this deployment does not have."""
    for place, alias in named.items():
        try:
            services.rules.check_model(alias)
        except UnknownModel as error:
            found = refused(error)
            raise Refused(f"{place}: {found}", status=found.status, code=found.code, param=place) from error


def bounds_of(services: Services) -> EvalBounds:
    """Return how many evals, and how much of them, a tenant may have."""
    settings = services.settings.of(EvalSettings)
    return EvalBounds(
        settings.max_evals,
        settings.max_eval_runs,
        settings.max_eval_bytes,
    )


def no_eval() -> Refusal:
    """Return the refusal of a request for an eval that its tenant does not have."""
    return Refusal(Why.NOT_FOUND, "this tenant has no eval of this id", param="eval_id")
