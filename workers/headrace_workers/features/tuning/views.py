"""Tuning runs as OpenAI's clients see them. Pure. Times are seconds since 1970."""

import json
from typing import Any, Final, Literal, Self

from pydantic import BaseModel, ConfigDict, Field
from sqlalchemy import Row

from headrace_schemas import TuningJob
from headrace_workers.features.tuning.store import SUCCEEDED

PREFIX: Final = "ftjob-"  # before the id of a job
AUTO: Final[Literal["auto"]] = "auto"


def job_id_of(run_id: str) -> str:
    """Return the id of the job that the id of a run names."""
    return run_id.removeprefix(PREFIX)


class RunError(BaseModel):
    """Why a run failed."""

    code: str
    message: str
    param: str | None


class Hyperparameters(BaseModel):
    """How a model learns; `auto` lets headrace choose."""

    model_config = ConfigDict(extra="forbid")

    batch_size: int | Literal["auto"] = AUTO
    learning_rate_multiplier: float | Literal["auto"] = AUTO
    n_epochs: int | Literal["auto"] = AUTO


class Supervised(BaseModel):
    """Learning from examples."""

    model_config = ConfigDict(extra="forbid")

    hyperparameters: Hyperparameters | None = None


class Method(BaseModel):
    """The method: `supervised` is the only one."""

    model_config = ConfigDict(extra="forbid")

    type: str = "supervised"
    supervised: Supervised | None = None
    dpo: Any = None
    reinforcement: Any = None


class RunDetails(BaseModel):
    """headrace's own fields: the job, and all aliases of the tuned model, one for each number format."""

    job_id: str
    tenant: str
    models: list[str]


class TuningRun(BaseModel):
    """A tuning run."""

    id: str
    object: Literal["fine_tuning.job"] = "fine_tuning.job"
    created_at: int
    finished_at: int | None
    estimated_finish: int | None
    status: Literal["validating_files", "queued", "running", "succeeded", "failed", "cancelled"]
    model: str
    fine_tuned_model: str | None = Field(description="The alias of the tuned model, once it is published.")
    organization_id: str = Field(description="The tenant.")
    training_file: str
    validation_file: str | None
    hyperparameters: Hyperparameters
    method: Method
    seed: int
    trained_tokens: int | None
    result_files: list[str]
    error: RunError | None
    integrations: list[Any]
    metadata: dict[str, str]
    headrace: RunDetails

    @classmethod
    def of(cls, run: Row[Any]) -> Self:
        """Return the view of a run."""
        job = TuningJob.model_validate_json(run.job)
        aliases = json.loads(run.aliases) if run.state == SUCCEEDED else []
        hyperparameters = Hyperparameters(
            batch_size=job.batch_size or AUTO,
            learning_rate_multiplier=job.learning_rate_multiplier or AUTO,
            n_epochs=job.epochs or AUTO,
        )
        return cls(
            id=PREFIX + run.job_id,
            created_at=run.created_at // 1000,
            finished_at=_seconds(run.finished_at),
            estimated_finish=_seconds(run.estimated_finish),
            status=run.state,
            model=run.model,
            fine_tuned_model=aliases[0] if aliases else None,
            organization_id=run.tenant,
            training_file=job.training_file,
            validation_file=job.validation_file,
            hyperparameters=hyperparameters,
            method=Method(supervised=Supervised(hyperparameters=hyperparameters)),
            seed=job.seed or 0,
            trained_tokens=run.trained_tokens if run.state == SUCCEEDED else None,
            result_files=[] if run.result_file is None else [run.result_file],
            error=None if run.error is None else RunError(**json.loads(run.error)),
            integrations=[],
            metadata=dict(job.metadata),
            headrace=RunDetails(job_id=run.job_id, tenant=run.tenant, models=aliases),
        )


class TuningEvent(BaseModel):
    """An event of a run; `data` has the figures of a step."""

    id: str
    object: Literal["fine_tuning.job.event"] = "fine_tuning.job.event"
    created_at: int
    level: Literal["info", "warn", "error"]
    message: str
    type: Literal["message", "metrics"]
    data: dict[str, Any] | None

    @classmethod
    def of(cls, job_id: str, event: Row[Any]) -> Self:
        """Return the view of an event."""
        return cls(
            id=f"ftevent-{job_id}-{event.number}",
            created_at=event.at // 1000,
            level=event.level,
            message=event.message,
            type="message" if event.data is None else "metrics",
            data=None if event.data is None else json.loads(event.data),
        )


class TuningCheckpoint(BaseModel):
    """A checkpoint of a run. A checkpoint is no model that answers: `fine_tuned_model_checkpoint` is null."""

    id: str
    object: Literal["fine_tuning.job.checkpoint"] = "fine_tuning.job.checkpoint"
    created_at: int
    fine_tuning_job_id: str
    fine_tuned_model_checkpoint: None = None
    step_number: int
    metrics: dict[str, float]

    @classmethod
    def of(cls, job_id: str, checkpoint: Row[Any]) -> Self:
        """Return the view of a checkpoint."""
        return cls(
            id=f"ftckpt-{job_id}-{checkpoint.step}",
            created_at=checkpoint.at // 1000,
            fine_tuning_job_id=PREFIX + job_id,
            step_number=checkpoint.step,
            metrics={"step": checkpoint.step, **json.loads(checkpoint.metrics)},
        )


def _seconds(ms: int | None) -> int | None:
    return None if ms is None else ms // 1000
