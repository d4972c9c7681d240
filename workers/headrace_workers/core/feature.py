"""A feature as one value: what it adds to headrace.

A feature stands in a folder of its own under `features/`, and its value in that folder's `feature.py`. The tuple of all
(`wiring/features.py`) is the only place that names them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar

from headrace_schemas.event_types import EventType, add_types

if TYPE_CHECKING:
    from sqlalchemy import Table

    from headrace_workers.core.admission import AdmissionCheck, AdmissionParts, Resolver
    from headrace_workers.core.environment import Variables
    from headrace_workers.core.ledger.end_counters import EndCounter
    from headrace_workers.core.ledger.event_units import UnitsOf
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.core.ledger.ledger import Ledger
    from headrace_workers.core.pipeline.stage import Stage
    from headrace_workers.core.scopes import Scope

T = TypeVar("T")


def _empty(*_: Any) -> tuple[()]:
    return ()


def _no_entries(*_: Any) -> Mapping[Any, Any]:
    return {}


@dataclass(frozen=True, slots=True)
class Finding:
    """A checked thing and what is wrong with it; None if nothing is. `was`: what was wrong lately, and is over."""

    what: str
    wrong: str | None = None
    was: str | None = None


@dataclass(frozen=True, slots=True)
class Check:
    """A thing that `headrace doctor` looks at. `look` is called on a thread of its own with the `Settings`, and returns
    what is wrong with the thing and what to do, a line each; or findings, also about other things. It may raise a
    HeadraceError instead.
    """

    what: str
    look: Callable[[Any], Sequence[str | Finding]]


@dataclass(frozen=True, slots=True)
class Extension:
    """A value that a feature adds at an extension point. It is loaded by a call."""

    point: "ExtensionPoint[Any]"
    load: Callable[[], Any]


class ExtensionPoint(Generic[T]):
    """A point at which features extend the feature that defines it, in its `feature.py`, or a package below features.

    The type of the values says what an extension is: a function to call at a certain moment, or things to know.
    """

    def by(self, load: Callable[[], T]) -> Extension:
        """Return the extension whose value this call loads."""
        return Extension(self, load)

    def values(self) -> tuple[T, ...]:
        """Return what the features add here, in their order."""
        return tuple(
            extension.load() for feature in installed() for extension in feature.extensions if extension.point is self
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Feature:
    """A feature: its routes, commands, stages and hooks. Each part is loaded by a call, so that a process imports only
    what it runs.

    HTTP and the shell. `routers` returns the FastAPI routers of the gateway, in the order in which they are asked.
    `services(gateway)` returns the objects of a gateway that the routes work with, by their class (http/services.py).
    `schemas` returns the JSON schemas, by name, of bodies that routes read themselves, for the API's description.
    `scopes` are the permissions that the feature adds to API keys. `commands` are functions for Typer, each as
    `module:function` by the words of its call, such as `keys create`; `groups` has the help of each group of commands.
    `checks` returns what `headrace doctor` looks at.
    `status` returns functions that read, from a ledger, a `StatusPart` that `headrace status` shows. `metrics` returns
    functions that read, by a connection of the ledger, Prometheus metrics that `/metrics` shows. `end_counters` returns
    counters of what ended for it (core/ledger/end_counters.py).

    Events. `events` returns the event types that the feature adds to the contract.

    The ledger. `hooks` returns what the feature does inside the transactions of the core. `change_kinds` are the kinds
    of change that the feature notes in the change feed, each with the word that `headrace status` shows for it.
    `tables` returns the feature's tables: `headrace ledger migrate` makes those that are missing.

    Jobs. `job_check` returns the feature's check of each job that needs nothing but the job, and `admission(parts)` the
    check that asks the deployment (core/admission.py). `resolver(parts)` returns the object that replaces a name of a
    job by all that the name stands for; one feature may have one. `stages(settings)` returns the feature's stages for a
    deployment's settings, or without settings for the defaults. `follows(settings, ledger, believed)` returns the
    object that makes units of work from published records (core/ledger/event_units.py). It may cache for `believed`
    seconds that nobody wants any.

    Processes. `settings` returns the feature's groups of settings, each a model whose fields are `HEADRACE_*`
    variables. `parts(worker)` returns, by name, the functions that build the parts of steps (runtime/worker/parts.py).
    `duties` are loops of a bridge by their names; the bridge makes each by a call with its own parts, which returns
    None where the deployment has no use for it (runtime/bridge/duty.py). `upkeep(settings, ledger)` returns a function
    that the reaping bridge calls once a minute. Each call does a bounded part of the work and returns True if there is
    more.

    Other features. `extensions` are what the feature adds at the extension points of features that it may import.
    """

    name: str
    routers: Callable[[], Sequence[Any]] = _empty
    services: Callable[[Any], Mapping[type, object]] = _no_entries
    schemas: Callable[[], Mapping[str, Any]] = _no_entries
    scopes: "Sequence[Scope]" = ()
    commands: Mapping[str, str] = field(default_factory=dict)
    groups: Mapping[str, str] = field(default_factory=dict)
    checks: Callable[[], Sequence[Check]] = _empty
    hooks: Callable[[], "Hooks"] | None = None
    status: Callable[[], Sequence[Callable[[Any], Any]]] = _empty
    metrics: Callable[[], Sequence[Callable[[Any], Any]]] = _empty
    end_counters: Callable[[], "Sequence[EndCounter]"] = _empty
    tables: Callable[[], Sequence["Table"]] = _empty
    change_kinds: Mapping[str, str] = field(default_factory=dict)
    job_check: Callable[[], "AdmissionCheck"] | None = None
    admission: Callable[["AdmissionParts"], "AdmissionCheck"] | None = None
    resolver: Callable[["AdmissionParts"], "Resolver"] | None = None
    stages: Callable[[Any], "Sequence[Stage]"] = _empty
    events: Callable[[], Sequence[EventType]] = _empty
    follows: Callable[[Any, "Ledger", float], "UnitsOf"] | None = None
    parts: Callable[[Any], Mapping[str, Callable[[], Any]]] = _no_entries
    duties: Mapping[str, Callable[[Any], Any]] = field(default_factory=dict)
    upkeep: Callable[[Any, "Ledger"], Callable[[], object] | None] | None = None
    settings: Callable[[], "Sequence[type[Variables]]"] = _empty
    extensions: Sequence[Extension] = ()


def commands_in(module: str, functions: Mapping[str, str]) -> dict[str, str]:
    """Return the commands of a module from the names of their functions."""
    return {words: f"{module}:{function}" for words, function in functions.items()}


_INSTALLED: Final[list[Feature]] = []


def install(features: Sequence[Feature]) -> None:
    """Set the features of this process. Their events are known from then on."""
    _INSTALLED[:] = features
    for feature in features:
        add_types(feature.events())


def installed() -> Sequence[Feature]:
    """Return all features of this process, in the order of `FEATURES`. Raise RuntimeError before they are set."""
    if not _INSTALLED:
        raise RuntimeError("no features are installed: import headrace_workers.wiring first")
    return _INSTALLED
