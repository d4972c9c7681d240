"""What cache adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:
    from headrace_workers.core.environment import Variables


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.cache.commands import bench, cache

    return (
        cache.register,
        bench.register,
    )


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.cache.settings import CacheSettings

    return (CacheSettings,)


FEATURE = Feature(name="cache", commands=_commands, settings=_settings)
