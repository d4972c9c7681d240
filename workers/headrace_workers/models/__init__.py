"""Models: their files and cards, engines that run them, remote models, structured output, embedders and verifiers."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Final

from headrace_workers.core.feature import ExtensionPoint

if TYPE_CHECKING:
    from headrace_workers.models.engines.engine import Engine

# The engines that model cards may name.
ENGINES: "Final[ExtensionPoint[Sequence[Engine[Any, Any]]]]" = ExtensionPoint()
