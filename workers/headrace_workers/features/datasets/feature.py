"""The datasets feature: cleaning of training data."""

from collections.abc import Callable, Sequence
from typing import Any

from headrace_workers.core.feature import Feature


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.datasets import commands

    return (commands.register,)


FEATURE = Feature(name="datasets", commands=_commands)
