"""The classifiers feature: heads on the embedder's vectors that answer decisions."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature
from headrace_workers.models import ENGINES

if TYPE_CHECKING:  # most processes do without it
    from headrace_workers.models.engines.engine import Engine


def _engines() -> "Sequence[Engine[Any, Any]]":
    from headrace_workers.features.classifiers.engine import ENGINE

    return (ENGINE,)


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.classifiers import commands

    return (commands.register,)


FEATURE = Feature(name="classifiers", commands=_commands, extensions=(ENGINES.by(_engines),))
