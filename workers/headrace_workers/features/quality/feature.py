"""What quality adds to headrace."""

from collections.abc import Callable, Sequence
from typing import Any

from headrace_workers.core.feature import Feature


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.quality.commands import labels, quality

    return (
        labels.register,
        quality.register,
    )


FEATURE = Feature(name="quality", commands=_commands)
