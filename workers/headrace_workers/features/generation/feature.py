"""The generation feature: how models answer jobs, and OpenAI's methods for text."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from headrace_workers.core.feature import Check, ExtensionPoint, Feature, commands_in
from headrace_workers.models import ENGINES

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import Connection, Table

    from headrace_workers.core.admission import AdmissionCheck, AdmissionParts
    from headrace_workers.core.environment import Variables
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.core.ledger.ledger import Ledger
    from headrace_workers.core.pipeline.stage import Stage
    from headrace_workers.features.generation.answer_additions import Answering
    from headrace_workers.features.generation.parts import PromptMarks
    from headrace_workers.models.engines.engine import Engine
    from headrace_workers.runtime.bridge.duty import BridgeParts, FeatureDuty
    from headrace_workers.runtime.settings import Settings
    from headrace_workers.runtime.worker.parts import WorkerParts

# Additions to how a model answers a job.
ANSWERING: "Final[ExtensionPoint[Answering]]" = ExtensionPoint()
# Each value returns the marks that are added to prompts, so that their tokens are counted, too.
PROMPT_MARKS: "Final[ExtensionPoint[Callable[[Settings], PromptMarks]]]" = ExtensionPoint()
# Each value returns, as /v1/models shows them, the names that a tenant's jobs may give in place of a model's: all that
# a list holds, or the one that is given.
NAMES: "Final[ExtensionPoint[Callable[[Ledger, str, str | None], Sequence[Mapping[str, Any]]]]]" = ExtensionPoint()


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.generation.api import answers, models, responses

    return (
        answers.router,
        responses.router,
        models.router,
    )


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.generation.store import breakers, responses

    def forget(connection: "Connection", older_than_ms: int) -> bool:
        breakers.forget(connection)
        return responses.forget(connection, older_than_ms)

    return Hooks(on_prune=forget, incidents=breakers.incidents)


def _admission(parts: "AdmissionParts") -> "AdmissionCheck":
    from headrace_workers.features.generation.admission import PromptCheck

    return PromptCheck(parts.models)


def _stages(_settings: "Settings | None") -> "Sequence[Stage]":
    from headrace_workers.features.generation.stage import GENERATE

    return (GENERATE,)


def _parts(worker: "WorkerParts") -> Mapping[str, Callable[[], Any]]:
    from headrace_workers.features.generation.parts import parts

    return parts(worker)


def _duty(bridge: "BridgeParts") -> "FeatureDuty":
    from headrace_workers.features.generation.rerouting import rerouting_of

    return rerouting_of(bridge)


def _metrics() -> Sequence[Callable[[Any], Any]]:
    from headrace_workers.features.generation import metrics

    return (metrics.unparsable_jobs, metrics.breakers)


def _checks() -> Sequence[Check]:
    from headrace_workers.features.generation.commands.model_checks import overflowing_models, unreachable_models

    return (Check("models", overflowing_models), Check("models on other machines", unreachable_models))


def _engines() -> "Sequence[Engine[Any, Any]]":
    from headrace_workers.models.engines import load_generator

    return load_generator.ENGINES


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.generation.settings import GenerationSettings

    return (GenerationSettings,)


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.generation import tables

    return tables_in(tables)


FEATURE = Feature(
    name="generation",
    tables=_tables,
    routers=_routers,
    groups={
        "models": "Manage the models of this machine.",
        "providers": "Manage the providers that may see a tenant's texts.",
    },
    commands=commands_in(
        "headrace_workers.features.generation.commands.models",
        {
            "models list": "list_models",
            "models pull": "pull",
            "models convert": "convert",
            "models status": "status",
            "models resume": "resume",
        },
    )
    | commands_in(
        "headrace_workers.features.generation.commands.providers",
        {
            "providers add": "add",
            "providers allow": "allow",
            "providers list": "list_allowed",
            "providers revoke": "revoke",
        },
    )
    | commands_in(
        "headrace_workers.features.generation.commands.drill",
        {"bench outage": "outage"},
    ),
    admission=_admission,
    hooks=_hooks,
    stages=_stages,
    parts=_parts,
    duties={"reroute": _duty},
    checks=_checks,
    metrics=_metrics,
    settings=_settings,
    extensions=(ENGINES.by(_engines),),
)
