"""Fine-tuning, as OpenAI's clients ask for it, and the deletion of tuned models."""

from typing import Annotated, Any, Final, Literal

from fastapi import APIRouter, Header
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from sqlalchemy import Row

from headrace_schemas import TuningJob
from headrace_schemas.callback import Callback
from headrace_schemas.codec import encode_value
from headrace_schemas.errors import HeadraceError, InvalidRecord, UnknownModel
from headrace_schemas.reasons import invalid_record
from headrace_schemas.tuning import Lora
from headrace_workers.core.scopes import JOBS_READ, JOBS_WRITE
from headrace_workers.features.files.api import file_of, stored
from headrace_workers.features.tuning.copies import ModelInUse, deletable, remove_copy, remove_model
from headrace_workers.features.tuning.store import TuningRuns
from headrace_workers.features.tuning.views import (
    AUTO,
    Hyperparameters,
    Method,
    TuningCheckpoint,
    TuningEvent,
    TuningRun,
    job_id_of,
)
from headrace_workers.files.object_store import Store
from headrace_workers.files.settings import FileSettings
from headrace_workers.http.bodies import JSONRoute, unparsed
from headrace_workers.http.caller import Caller, check_named, needs
from headrace_workers.http.errors import Refusal, Why
from headrace_workers.http.openai import ERRORS, refused
from headrace_workers.http.paging import After, Limit, Page
from headrace_workers.http.services import Services, Wired

router = APIRouter(tags=["fine-tuning"], route_class=JSONRoute)

Reads = Annotated[Caller, needs(JOBS_READ)]
Writes = Annotated[Caller, needs(JOBS_WRITE)]
PURPOSE: Final = "fine-tune"  # of files to learn from
_MOST_METADATA: Final = 16
_PLACE: Final = "method.supervised.hyperparameters"
_NAMES: Final = {
    "epochs": f"{_PLACE}.n_epochs",
    "batch_size": f"{_PLACE}.batch_size",
    "learning_rate_multiplier": f"{_PLACE}.learning_rate_multiplier",
    **{name: f"headrace.{name}" for name in ("quantizations", "lora", "callback")},
}


class TuningOptions(BaseModel):
    """headrace's own options of a run."""

    model_config = ConfigDict(extra="forbid")

    quantizations: Annotated[
        list[str] | None, Field(description="Number formats in which the tuned model is published. By default int8.")
    ] = None
    lora: Lora | None = None
    callback: Callback | None = None


class AskedRun(BaseModel):
    """A run to be started."""

    model_config = ConfigDict(extra="forbid")

    model: Annotated[str, Field(description="The model that learns: a model of the catalogue, or a tuned one.")]
    training_file: Annotated[str, Field(description="The id of a file with the purpose `fine-tune`.")]
    validation_file: Annotated[str | None, Field(description="By default a part of the training file.")] = None
    suffix: Annotated[str | None, Field(description="A part of the tuned model's name.")] = None
    seed: int | None = None
    method: Method | None = None
    hyperparameters: Annotated[Hyperparameters | None, Field(description="Older clients send it; use `method`.")] = None
    integrations: list[Any] | None = None
    metadata: Annotated[dict[str, str] | None, Field(max_length=_MOST_METADATA)] = None
    headrace: TuningOptions | None = None


class TuningRunList(Page[TuningRun]):
    """Runs, a page of them, newest first."""


class TuningEventList(Page[TuningEvent]):
    """Events, a page of them, newest first."""


class TuningCheckpointList(Page[TuningCheckpoint]):
    """Checkpoints, a page of them, newest first."""


class ModelDeleted(BaseModel):
    """A model that was deleted."""

    id: str
    object: Literal["model"] = "model"
    deleted: Literal[True] = True


@router.post("/v1/fine_tuning/jobs", responses=ERRORS)
async def create(
    caller: Writes,
    services: Wired,
    asked: AskedRun,
    key: Annotated[
        str | None,
        Header(
            alias="Idempotency-Key",
            min_length=1,
            max_length=256,
            description="The same key of the same tenant is the same run.",
        ),
    ] = None,
) -> TuningRun:
    """Tune a model with the examples of an uploaded file. The files are checked when the run begins."""
    try:
        job = _job(caller, asked, key)
    except InvalidRecord as error:
        raise refused(error, names=_NAMES) from error
    check_named(caller, [job])
    for param, file_id in (("training_file", job.training_file), ("validation_file", job.validation_file)):
        if file_id is None:
            continue
        file = await file_of(services, caller, file_id, param)
        if file.purpose != PURPOSE:
            words = f"{param}: the file's purpose is {file.purpose!r}, and must be {PURPOSE!r}"
            raise Refusal(Why.INVALID, words, param=param)
    try:
        (job_id,) = await services.admission.submit(caller, [job])
    except Refusal:
        raise
    except HeadraceError as error:
        raise refused(error, names=_NAMES) from error
    runs = services.ledger.of(TuningRuns)
    await services.ask(runs.begin, job_id, caller.tenant, encode_value(job))  # ingest may still be behind
    if (run := await services.ask(runs.run, job_id, caller.tenant)) is None:
        words = "Idempotency-Key: the run of this key was cancelled before, or its model is deleted: send another key"
        raise Refusal(Why.CONFLICT, words, should_retry=False)
    return TuningRun.of(run)


@router.get("/v1/fine_tuning/jobs", responses=ERRORS)
async def list_runs(caller: Reads, services: Wired, after: After = None, limit: Limit = 20) -> TuningRunList:
    """Return the tenant's runs, newest first."""
    last = None if after is None else (await _run(services, caller, after, "after")).job_id
    rows = await services.ask(services.ledger.of(TuningRuns).runs, caller.tenant, last, limit + 1)
    return TuningRunList.of(rows, limit, TuningRun.of)


@router.get("/v1/fine_tuning/jobs/{fine_tuning_job_id}", responses=ERRORS)
async def show(fine_tuning_job_id: str, caller: Reads, services: Wired) -> TuningRun:
    """Return a run."""
    return TuningRun.of(await _run(services, caller, fine_tuning_job_id))


@router.get("/v1/fine_tuning/jobs/{fine_tuning_job_id}/events", responses=ERRORS)
async def list_events(
    fine_tuning_job_id: str, caller: Reads, services: Wired, after: After = None, limit: Limit = 20
) -> TuningEventList:
    """Return the events of a run, newest first."""
    run = await _run(services, caller, fine_tuning_job_id)
    number = _number(after, f"ftevent-{run.job_id}-", "event")
    rows = await services.ask(services.ledger.of(TuningRuns).events, run.number, number, limit + 1)
    return TuningEventList.of(rows, limit, lambda event: TuningEvent.of(run.job_id, event))


@router.get("/v1/fine_tuning/jobs/{fine_tuning_job_id}/checkpoints", responses=ERRORS)
async def list_checkpoints(
    fine_tuning_job_id: str, caller: Reads, services: Wired, after: After = None, limit: Limit = 10
) -> TuningCheckpointList:
    """Return the checkpoints of a run, newest first. They are not models that answer."""
    run = await _run(services, caller, fine_tuning_job_id)
    step = _number(after, f"ftckpt-{run.job_id}-", "checkpoint")
    rows = await services.ask(services.ledger.of(TuningRuns).checkpoints, run.number, step, limit + 1)
    return TuningCheckpointList.of(rows, limit, lambda checkpoint: TuningCheckpoint.of(run.job_id, checkpoint))


@router.post("/v1/fine_tuning/jobs/{fine_tuning_job_id}/cancel", responses=ERRORS)
async def cancel(fine_tuning_job_id: str, caller: Writes, services: Wired) -> TuningRun:
    """Cancel a run. A run that has ended stays as it is."""
    run = await _run(services, caller, fine_tuning_job_id)
    if run.finished_at is None:
        await services.cancel([run.job_id], caller.tenant, "cancelled by its owner")
    return TuningRun.of(await _run(services, caller, fine_tuning_job_id))


@router.post("/v1/fine_tuning/jobs/{fine_tuning_job_id}/pause", responses=ERRORS)
@router.post("/v1/fine_tuning/jobs/{fine_tuning_job_id}/resume", responses=ERRORS)
async def pause(fine_tuning_job_id: str, caller: Writes, services: Wired) -> TuningRun:
    """Refuse: runs cannot be paused. Every run goes on from its last checkpoint when its worker starts again."""
    await _run(services, caller, fine_tuning_job_id)
    raise Refusal(Why.INVALID, "runs cannot be paused: cancel it, and start another later", code="unsupported")


@router.delete("/v1/models/{model:path}", responses=ERRORS)
async def delete_model(model: str, caller: Writes, services: Wired) -> ModelDeleted:
    """Delete a tuned model of the tenant. 409 while jobs make, await or learn from it, or a label uses it."""
    home, where = services.settings.home, services.settings.of(FileSettings).place(services.settings.home)
    try:
        card = await services.ask(deletable, services.ledger, home, model, caller.tenant)
    except UnknownModel as error:
        raise refused(error) from error
    except ModelInUse as error:
        raise Refusal(Why.CONFLICT, str(error), param="model", should_retry=False) from error
    await stored(services, caller, lambda _goes_on: remove_copy(Store.at(where), model))
    await services.ask(remove_model, services.ledger, home, card)
    return ModelDeleted(id=model)


async def _run(services: Services, caller: Caller, run_id: str, param: str = "fine_tuning_job_id") -> Row[Any]:
    row = await services.known(services.ledger.of(TuningRuns).run, job_id_of(run_id), caller.tenant)
    if row is None:
        raise Refusal(Why.NOT_FOUND, f"{param}: this tenant has no fine-tuning job of this id", param=param)
    return row


def _number(after: str | None, prefix: str, what: str) -> int | None:
    """Return the number in the id of the last item of a page."""
    if after is None:
        return None
    number = after.removeprefix(prefix)
    if number == after or not number.isascii() or not number.isdigit() or len(number) > 9:
        raise Refusal(Why.NOT_FOUND, f"after: the run has no {what} of this id", param="after")
    return int(number)


def _job(caller: Caller, asked: AskedRun, key: str | None) -> TuningJob:
    """Return the job of a request. Raise Refusal for what is not supported, and InvalidRecord."""
    method = asked.method
    if method is not None and (method.type != "supervised" or method.dpo or method.reinforcement):
        what = method.type if method.type != "supervised" else "dpo" if method.dpo else "reinforcement"
        words = f"method.type: {what!r} is not supported: send 'supervised', or leave method out"
        raise Refusal(Why.INVALID, words, param="method.type", code="unsupported_parameter")
    if asked.integrations:
        words = "integrations: are not supported: leave them out, and list the events of the run"
        raise Refusal(Why.INVALID, words, param="integrations", code="unsupported_parameter")
    supervised = None if method is None or method.supervised is None else method.supervised.hyperparameters
    given = supervised or asked.hyperparameters or Hyperparameters()
    own = asked.headrace or TuningOptions()
    fields = {
        "tenant": caller.tenant, "idempotency_key": key, "model": asked.model, "training_file": asked.training_file,
        "validation_file": asked.validation_file, "suffix": asked.suffix, "seed": asked.seed,
        "metadata": asked.metadata,
        "epochs": given.n_epochs, "batch_size": given.batch_size,
        "learning_rate_multiplier": given.learning_rate_multiplier, "quantizations": own.quantizations,
        "lora": own.lora and own.lora.model_dump(mode="json"),
        "callback": own.callback and own.callback.model_dump(mode="json", exclude_defaults=True),
    }  # fmt: skip
    sent = {name: value for name, value in fields.items() if value is not None and value != AUTO}
    try:
        return TuningJob.model_validate_json(unparsed(sent), strict=True)
    except ValidationError as error:
        raise invalid_record(error) from None
