"""The moderation feature: policies, detectors, and held texts."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature, commands_in
from headrace_workers.features.generation.feature import ANSWERING, PROMPT_MARKS

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import Table

    from headrace_workers.core.admission import AdmissionCheck
    from headrace_workers.core.environment import Variables
    from headrace_workers.core.pipeline.stage import Stage
    from headrace_workers.features.generation.answer_additions import Answering
    from headrace_workers.features.generation.parts import PromptMarks
    from headrace_workers.runtime.settings import Settings
    from headrace_workers.runtime.worker.parts import WorkerParts


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.moderation import api

    return (api.router, api.held)


def _job_check() -> "AdmissionCheck":
    from headrace_workers.features.moderation.admission import ModeratorCheck

    return ModeratorCheck()


def _stages(settings: "Settings | None") -> "Sequence[Stage]":
    from headrace_workers.features.moderation.stage import stages_of

    return stages_of(settings)


def _answering() -> "Answering":
    from headrace_workers.features.generation.answer_additions import Answering
    from headrace_workers.features.moderation import asked_again

    return Answering(turns=asked_again.turns, without_another=asked_again.without_another)


def _prompt_marks() -> "Callable[[Settings], PromptMarks]":
    from headrace_workers.features.moderation.deployed_policy import canaries_of

    return canaries_of


def _parts(worker: "WorkerParts") -> Mapping[str, Callable[[], Any]]:
    from headrace_workers.features.moderation.parts import parts

    return parts(worker)


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.moderation.settings import ModerationSettings

    return (ModerationSettings,)


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.moderation import tables

    return tables_in(tables)


FEATURE = Feature(
    name="moderation",
    tables=_tables,
    routers=_routers,
    groups={
        "moderation": "Moderate a text, and test policies.",
    },
    commands=commands_in(
        "headrace_workers.features.moderation.commands.moderation",
        {
            "moderation check": "check",
            "moderation train": "train",
            "moderation report": "report",
        },
    )
    | commands_in(
        "headrace_workers.features.moderation.commands.moderation_try",
        {"moderation try": "try_policy"},
    )
    | commands_in(
        "headrace_workers.features.moderation.commands.held",
        {
            "review held": "held",
        },
    ),
    job_check=_job_check,
    stages=_stages,
    parts=_parts,
    settings=_settings,
    extensions=(ANSWERING.by(_answering), PROMPT_MARKS.by(_prompt_marks)),
)
