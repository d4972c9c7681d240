"""What cache adds to headrace."""

from collections.abc import Callable, Sequence
from typing import Any

from headrace_workers.core.feature import Feature


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.cache.commands import bench, cache

    return (
        cache.register,
        bench.register,
    )


FEATURE = Feature(name="cache", commands=_commands)
