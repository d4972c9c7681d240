"""A feature as one value: what it adds to headrace.

A feature stands in a folder of its own under `features/`, and its value in that folder's `feature.py`. The tuple of all
(`wiring/features.py`) is the only place that names them.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from headrace_workers.core.environment import Variables
    from headrace_workers.core.ledger.hooks import Hooks

_FEATURES: Final = "headrace_workers.wiring.features"  # by its name, since the core imports no feature


def _nothing() -> Sequence[Any]:
    return ()


def _no_hooks() -> "Hooks | None":
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """What a feature adds. Each part is loaded by a call, so that a process imports only what it runs.

    `routers` returns the FastAPI routers of the gateway, in the order in which they are asked. `commands` returns
    functions that add a command, or a group of commands, to the Typer application that they are given. `hooks` returns
    what the feature does inside the transactions of the core. `settings` returns the feature's groups of settings, each
    a model whose fields are `HEADRACE_*` variables.
    """

    name: str
    routers: Callable[[], Sequence[Any]] = _nothing
    commands: Callable[[], Sequence[Callable[[Any], None]]] = _nothing
    hooks: Callable[[], "Hooks | None"] = _no_hooks
    settings: Callable[[], "Sequence[type[Variables]]"] = _nothing


@cache
def installed() -> tuple[Feature, ...]:
    """Return all features of this installation, in the order of `FEATURES`."""
    features: tuple[Feature, ...] = import_module(_FEATURES).FEATURES
    return features
