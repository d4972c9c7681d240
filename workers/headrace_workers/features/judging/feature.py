"""What judging adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.ledger.hooks import Hooks


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.judging.api import evaluations

    return (evaluations.router,)


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.judging.commands import judge

    return (judge.register,)


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.judging.store import score_counts

    return Hooks(on_results=score_counts.count)


FEATURE = Feature(name="judging", routers=_routers, commands=_commands, hooks=_hooks)
