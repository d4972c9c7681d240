"""The decisions feature: jobs whose questions a model answers with probabilities."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature, commands_in

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import Table

    from headrace_workers.core.admission import AdmissionCheck, AdmissionParts
    from headrace_workers.core.pipeline.stage import Stage
    from headrace_workers.features.decisions.earlier import EarlierDecisions
    from headrace_workers.features.decisions.temperatures import Temperatures
    from headrace_workers.runtime.settings import Settings
    from headrace_workers.runtime.worker.parts import WorkerParts


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.decisions import api

    return (api.router,)


def _admission(parts: "AdmissionParts") -> "AdmissionCheck":
    from headrace_workers.features.decisions.admission import QuestionCheck

    return QuestionCheck(parts.models)


def _stages(_settings: "Settings | None") -> "Sequence[Stage]":
    from headrace_workers.features.decisions.stage import DECIDE

    return (DECIDE,)


def _tables() -> "Sequence[Table]":
    from headrace_workers.features.decisions.temperatures import CALIBRATIONS

    return (CALIBRATIONS,)


def _parts(worker: "WorkerParts") -> Mapping[str, Callable[[], Any]]:
    def temperatures() -> "Temperatures":
        from headrace_workers.features.decisions.temperatures import temperatures_of
        from headrace_workers.models.registry import Registry

        return temperatures_of(worker.ledger, worker.model or "", Registry(worker.settings.home).version)

    def earlier() -> "EarlierDecisions":
        from headrace_workers.features.cache.settings import CacheSettings
        from headrace_workers.features.decisions.earlier import earlier_decisions
        from headrace_workers.models.registry import Registry

        own = worker.settings.of(CacheSettings)
        registry = Registry(worker.settings.home)
        return earlier_decisions(worker.ledger, registry, worker.model or "", own.cache, own.cache_ttl)

    return {"temperatures": temperatures, "earlier": earlier}


FEATURE = Feature(
    name="decisions",
    routers=_routers,
    admission=_admission,
    stages=_stages,
    tables=_tables,
    groups={"decisions": "Calibrate decisions."},
    commands=commands_in(
        "headrace_workers.features.decisions.commands",
        {"decisions calibrate": "calibrate"},
    ),
    parts=_parts,
)
