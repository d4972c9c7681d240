"""The cache feature: exact and semantic caching of answers, and audits of it."""

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature, commands_in
from headrace_workers.features.cache.settings import CacheSettings
from headrace_workers.features.generation.feature import ANSWERING
from headrace_workers.features.knowledge.feature import DOCUMENTS_CHANGED

if TYPE_CHECKING:  # most processes do without it
    from sqlalchemy import Connection, Table

    from headrace_workers.core.environment import Variables
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.core.ledger.ledger import Ledger
    from headrace_workers.core.pipeline.stage import Stage
    from headrace_workers.features.generation.answer_additions import Answering
    from headrace_workers.runtime.settings import Settings
    from headrace_workers.runtime.worker.parts import WorkerParts


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.cache.store import audits, entries, removal, row_locks

    return Hooks(
        concerns=entries.makes_answer,
        hold_rows=row_locks.hold,
        on_completion=entries.withdraw_of,
        on_held=entries.withdraw_of,
        on_withheld=removal.disown,
        is_due=entries.any_expired,
        on_reap=entries.expire,
        on_prune=removal.forget,
        incidents=audits.incidents,
    )


def _stages(settings: "Settings | None") -> "Sequence[Stage]":
    from headrace_workers.features.cache.stage import stages
    from headrace_workers.models.verifiers.verify_stage import model_of_verifier

    if settings is None:
        return stages()
    own = settings.of(CacheSettings)
    return stages(own.cache, model_of_verifier(own.verify), own.verify_time)


def _outdate() -> "Callable[[Connection, Mapping[int, str], str | None], object]":
    from headrace_workers.features.cache.store import entries

    return entries.outdate


def _answering() -> "Answering":
    from headrace_workers.features.cache.step import answer_fields, compared_with
    from headrace_workers.features.generation.answer_additions import Answering

    return Answering(answer_fields=answer_fields, rows=compared_with)


def _upkeep(settings: "Settings", ledger: "Ledger") -> Callable[[], object] | None:
    from headrace_workers.features.cache.store.answers import Answers

    most = settings.of(CacheSettings).cache_max_entries  # that a tenant keeps; 0: any number
    return partial(ledger.of(Answers).evict, most) if most else None


def _parts(worker: "WorkerParts") -> Mapping[str, Callable[[], Any]]:
    from headrace_workers.features.cache.parts import parts

    return parts(worker)


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.cache.settings import CacheSettings

    return (CacheSettings,)


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.cache import tables

    return tables_in(tables)


FEATURE = Feature(
    name="cache",
    tables=_tables,
    groups={
        "cache": "Inspect the cache of answers, and remove answers from it.",
        "bench": "Measure the cache, knowledge bases and judges before you rely on them, and rehearse failures.",
    },
    commands=commands_in(
        "headrace_workers.features.cache.commands.audits",
        {"cache stats": "stats", "review audits": "label", "cache serve": "serve"},
    )
    | commands_in(
        "headrace_workers.features.cache.commands.cache",
        {"cache explain": "explain", "cache purge": "purge", "cache wrong": "wrong"},
    )
    | commands_in(
        "headrace_workers.features.cache.commands.bench",
        {"bench cache": "cache", "bench retrieval": "retrieval"},
    ),
    hooks=_hooks,
    change_kinds={"entry": "answers"},
    stages=_stages,
    parts=_parts,
    upkeep=_upkeep,
    settings=_settings,
    extensions=(ANSWERING.by(_answering), DOCUMENTS_CHANGED.by(_outdate)),
)
