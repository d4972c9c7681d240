"""What judging adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.judging.api import evaluations

    return (evaluations.router,)


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.judging.commands import judge

    return (judge.register,)


def _job_checks() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.judging.usable import check_usable

    return (check_usable,)


FEATURE = Feature(name="judging", routers=_routers, commands=_commands, job_checks=_job_checks)
