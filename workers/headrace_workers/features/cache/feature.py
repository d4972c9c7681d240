"""What cache adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from headrace_workers.core.pipeline.answering import Answering
    from headrace_workers.core.pipeline.stage import Stage
    from headrace_workers.runtime.settings import Settings


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.cache.commands import bench, cache

    return (
        cache.register,
        bench.register,
    )


def _stages(settings: "Settings | None") -> "Sequence[Stage]":
    from headrace_workers.features.cache.stage import stages

    return stages() if settings is None else stages(settings.cache)


def _answering() -> "Answering":
    from headrace_workers.core.pipeline.answering import Answering
    from headrace_workers.features.cache.step import compared_with, told

    return Answering(told=told, rows=compared_with)


FEATURE = Feature(name="cache", commands=_commands, stages=_stages, answering=_answering)
