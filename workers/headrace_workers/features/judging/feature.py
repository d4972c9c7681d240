"""The judging feature: criteria, scores, and groundedness."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature, commands_in
from headrace_workers.features.generation.feature import ANSWERING

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import Table

    from headrace_workers.core.admission import AdmissionCheck
    from headrace_workers.core.environment import Variables
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.core.pipeline.stage import Stage
    from headrace_workers.features.generation.answer_additions import Answering
    from headrace_workers.runtime.settings import Settings
    from headrace_workers.runtime.worker.parts import WorkerParts


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.judging import api

    return (api.router,)


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.judging import store

    return Hooks(on_results=store.count_scores)


def _status() -> Sequence[Callable[[Any], Any]]:
    from headrace_workers.features.judging import score_counts

    return (score_counts.status_of_scores,)


def _metrics() -> Sequence[Callable[[Any], Any]]:
    from headrace_workers.features.judging import score_counts

    return (score_counts.metrics_of_scores,)


def _job_check() -> "AdmissionCheck":
    from headrace_workers.features.judging.admission import CriteriaCheck

    return CriteriaCheck()


def _stages(settings: "Settings | None") -> "Sequence[Stage]":
    from headrace_workers.features.judging.settings import JudgingSettings
    from headrace_workers.features.judging.stage import stages
    from headrace_workers.models.verifiers.verify_stage import model_of_verifier

    if settings is None:
        return stages()
    own = settings.of(JudgingSettings)
    return stages(model_of_verifier(own.grounded_verify), own.grounded_verify_time)


def _parts(worker: "WorkerParts") -> Mapping[str, Callable[[], Any]]:
    from headrace_workers.features.judging.parts import parts

    return parts(worker)


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.judging.settings import JudgingSettings

    return (JudgingSettings,)


def _answering() -> "Answering":
    from headrace_workers.features.generation.answer_additions import Answering
    from headrace_workers.features.judging import quality_retry

    return Answering(turns=quality_retry.turns, without_another=quality_retry.without_another)


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.judging import store

    return tables_in(store)


FEATURE = Feature(
    name="judging",
    tables=_tables,
    routers=_routers,
    groups={"judge": "Test criteria.\n\nExample: `headrace judge try polite.toml --on outputs --since 7d`"},
    commands=commands_in(
        "headrace_workers.features.judging.commands",
        {"bench judge": "probe", "judge try": "try_criterion", "bench groundedness": "groundedness"},
    ),
    hooks=_hooks,
    status=_status,
    metrics=_metrics,
    job_check=_job_check,
    stages=_stages,
    parts=_parts,
    settings=_settings,
    extensions=(ANSWERING.by(_answering),),
)
