"""The tuning feature: models that learn from examples."""

from collections.abc import Callable, Sequence
from typing import Any

from headrace_workers.core.feature import Feature


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.tuning import commands

    return (commands.register,)


FEATURE = Feature(name="tuning", commands=_commands)
