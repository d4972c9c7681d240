"""A feature as one value: what it adds to headrace.

A feature stands in a folder of its own under `features/`, and its value in that folder's `feature.py`. The tuple of all
(`wiring/features.py`) is the only place that names them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from headrace_workers.core.ledger.hooks import Hooks

_FEATURES: Final = "headrace_workers.wiring.features"  # by its name, since the core imports no feature


def _nothing() -> Sequence[Any]:
    return ()


def _no_schemas() -> Mapping[str, Any]:
    return {}


def _no_hooks() -> "Hooks | None":
    return None


@dataclass(frozen=True, slots=True)
class Check:
    """A thing that `headrace doctor` looks at. `look` is called on a thread of its own with the `Settings`, and returns
    what is wrong with the thing and what to do, a line each; it may raise a HeadraceError instead.
    """

    what: str
    look: Callable[[Any], Sequence[str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """What a feature adds. Each part is loaded by a call, so that a process imports only what it runs.

    `routers` returns the FastAPI routers of the gateway, in the order in which they are asked. `schemas` returns the
    JSON schemas, by name, of bodies that routes read themselves, for the API's description. `commands` returns
    functions that add a command, or a group of commands, to the Typer application that they are given. `checks` returns
    what `headrace doctor` looks at. `job_checks` returns functions that check a job by itself, and raise InvalidRecord:
    the jobs of a file pass them before any is sent. `hooks` returns what the feature does inside the transactions of
    the core.
    """

    name: str
    routers: Callable[[], Sequence[Any]] = _nothing
    schemas: Callable[[], Mapping[str, Any]] = _no_schemas
    commands: Callable[[], Sequence[Callable[[Any], None]]] = _nothing
    checks: Callable[[], Sequence[Check]] = _nothing
    job_checks: Callable[[], Sequence[Callable[[Any], None]]] = _nothing
    hooks: Callable[[], "Hooks | None"] = _no_hooks


@cache
def installed() -> tuple[Feature, ...]:
    """Return all features of this installation, in the order of `FEATURES`."""
    features: tuple[Feature, ...] = import_module(_FEATURES).FEATURES
    return features
