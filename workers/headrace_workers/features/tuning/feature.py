"""The tuning feature: models that learn from examples."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature, commands_in
from headrace_workers.files import FILE_USERS

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import ColumnElement, Select, Table

    from headrace_workers.core.admission import AdmissionCheck, AdmissionParts
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.core.pipeline.stage import Stage
    from headrace_workers.features.tuning.tuner import Tuner
    from headrace_workers.runtime.worker.parts import WorkerParts


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.tuning import api

    return (api.router,)


def _admission(parts: "AdmissionParts") -> "AdmissionCheck":
    from headrace_workers.features.tuning.admission import RunCheck

    return RunCheck(parts)


def _users_of_file() -> "Callable[[str | ColumnElement[str]], Select[str]]":
    from headrace_workers.features.tuning import store

    return store.users_of_file


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.tuning import store

    return Hooks(
        on_ingest=store.begin_runs,
        on_refused=store.end_refused,
        concerns=store.is_tuning,
        hold_rows=store.hold_runs,
        on_completion=store.end_runs,
        on_prune=store.forget_old,
    )


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.tuning import tables

    return tables_in(tables)


def _stages(_settings: object) -> "Sequence[Stage]":
    from headrace_workers.features.tuning.stage import STAGES

    return STAGES


def _parts(worker: "WorkerParts") -> Mapping[str, Callable[[], Any]]:
    def tuner() -> "Tuner":
        from headrace_workers.features.tuning.tuner import tuner_of

        return tuner_of(worker.settings, worker.ledger)

    return {"tuner": tuner}


FEATURE = Feature(
    name="tuning",
    tables=_tables,
    routers=_routers,
    groups={"tune": "Fine-tune models on this machine, and manage fine-tuning jobs."},
    commands=commands_in(
        "headrace_workers.features.tuning.commands",
        {
            "models delete": "delete_model",
            "tune run": "run",
            "tune list": "list_runs",
            "tune cancel": "cancel",
        },
    ),
    hooks=_hooks,
    admission=_admission,
    stages=_stages,
    parts=_parts,
    extensions=(FILE_USERS.by(_users_of_file),),
)
