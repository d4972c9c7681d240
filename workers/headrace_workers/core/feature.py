"""A feature as one value: what it adds to headrace.

A feature stands in a folder of its own under `features/`, and its value in that folder's `feature.py`. The tuple of all
(`wiring/features.py`) is the only place that names them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from headrace_workers.core.admission.check import AdmissionCheck
    from headrace_workers.core.admission.parts import AdmissionParts
    from headrace_workers.core.ledger.hooks import Hooks

_FEATURES: Final = "headrace_workers.wiring.features"  # by its name, since the core imports no feature


def _nothing() -> Sequence[Any]:
    return ()


def _no_hooks() -> "Hooks | None":
    return None


def _no_check(_parts: "AdmissionParts") -> "AdmissionCheck | None":
    return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """What a feature adds. Each part is loaded by a call, so that a process imports only what it runs.

    `routers` returns the FastAPI routers of the gateway, in the order in which they are asked. `commands` returns
    functions that add a command, or a group of commands, to the Typer application that they are given. `hooks` returns
    what the feature does inside the transactions of the core. `status` returns functions that read, from a ledger, a
    `StatusPart` that `headrace status` shows. `metrics` returns functions that read, by a connection of the ledger,
    Prometheus metrics that `/metrics` shows. `change_kinds` are the kinds of change that the feature notes in the
    change feed, each with the word that `headrace status` shows for it.
    `admission` returns what the feature checks of each job before it is taken in.
    """

    name: str
    routers: Callable[[], Sequence[Any]] = _nothing
    commands: Callable[[], Sequence[Callable[[Any], None]]] = _nothing
    hooks: Callable[[], "Hooks | None"] = _no_hooks
    status: Callable[[], Sequence[Callable[[Any], Any]]] = _nothing
    metrics: Callable[[], Sequence[Callable[[Any], Any]]] = _nothing
    change_kinds: Mapping[str, str] = field(default_factory=dict)
    admission: Callable[["AdmissionParts"], "AdmissionCheck | None"] = _no_check


@cache
def installed() -> tuple[Feature, ...]:
    """Return all features of this installation, in the order of `FEATURES`."""
    features: tuple[Feature, ...] = import_module(_FEATURES).FEATURES
    return features
