"""What jobs adds to headrace."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

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


FEATURE = Feature(name="jobs", routers=_routers)
