"""The decisions feature: jobs whose questions a model answers with probabilities."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.admission import AdmissionCheck, AdmissionParts
    from headrace_workers.core.pipeline.stage import Stage
    from headrace_workers.runtime.settings import Settings


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.decisions import api

    return (api.router,)


def _admission(parts: "AdmissionParts") -> "AdmissionCheck":
    from headrace_workers.features.decisions.admission import QuestionCheck

    return QuestionCheck(parts.models)


def _stages(_settings: "Settings | None") -> "Sequence[Stage]":
    from headrace_workers.features.decisions.stage import DECIDE

    return (DECIDE,)


FEATURE = Feature(name="decisions", routers=_routers, admission=_admission, stages=_stages)
