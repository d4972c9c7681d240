"""The jobs feature: jobs over HTTP."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.jobs.api import events, jobs

    return (
        jobs.sending,
        jobs.showing,
        jobs.router,
        events.router,
    )


def _schemas() -> Mapping[str, Any]:
    from headrace_workers.features.jobs.api import jobs

    return jobs.schemas()


FEATURE = Feature(name="jobs", routers=_routers, schemas=_schemas)
