"""What evals adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.environment import Variables


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.evals.api import eval_runs, evals

    return (
        evals.router,
        eval_runs.router,
    )


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.evals.commands import evaluate

    return (evaluate.register,)


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.evals.settings import EvalSettings

    return (EvalSettings,)


FEATURE = Feature(name="evals", routers=_routers, commands=_commands, settings=_settings)
