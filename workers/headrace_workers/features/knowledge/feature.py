"""The knowledge feature: knowledge bases, vector stores, and embeddings."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final

from headrace_workers.core.feature import ExtensionPoint, Feature, commands_in
from headrace_workers.core.scopes import Scope
from headrace_workers.features.generation.feature import ANSWERING
from headrace_workers.models import ENGINES

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import Connection, Table

    from headrace_workers.core.admission import AdmissionCheck, AdmissionParts
    from headrace_workers.core.environment import Variables
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.core.pipeline.stage import Stage
    from headrace_workers.features.generation.answer_additions import Answering
    from headrace_workers.http.services import GatewayParts
    from headrace_workers.models.engines.engine import Engine
    from headrace_workers.runtime.settings import Settings
    from headrace_workers.runtime.worker.parts import WorkerParts

KNOWLEDGE_READ: Final = Scope("knowledge:read")  # vector stores
KNOWLEDGE_WRITE: Final = Scope("knowledge:write")

# Each value is called with the documents of knowledge bases that changed or were removed: the reasons by document id,
# and the version that they have now (None: they are gone).
DOCUMENTS_CHANGED: "Final[ExtensionPoint[Callable[[Connection, Mapping[int, str], str | None], object]]]" = (
    ExtensionPoint()
)


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.knowledge.api import embeddings, vector_stores

    return (embeddings.router, vector_stores.router)


def _hooks() -> "Hooks":
    from headrace_workers.core.ledger.hooks import Hooks
    from headrace_workers.features.knowledge.store import documents

    return Hooks(on_prune=documents.forget_uses)


def _admission(parts: "AdmissionParts") -> "AdmissionCheck":
    from headrace_workers.features.knowledge.admission import KnowledgeCheck
    from headrace_workers.features.knowledge.store.documents import KnowledgeBases

    return KnowledgeCheck(parts.embedder, parts.ledger.of(KnowledgeBases).unknown)


def _stages(_settings: "Settings | None") -> "Sequence[Stage]":
    from headrace_workers.features.knowledge.stage import EMBED

    return (EMBED,)


def _answering() -> "Answering":
    from headrace_workers.features.generation.answer_additions import Answering
    from headrace_workers.features.knowledge.grounding import answer_fields, conversation_of

    return Answering(conversation=conversation_of, answer_fields=answer_fields)


def _parts(worker: "WorkerParts") -> Mapping[str, Callable[[], Any]]:
    from headrace_workers.features.knowledge.parts import parts

    return parts(worker)


def _services(gateway: "GatewayParts") -> Mapping[type, object]:
    from headrace_workers.features.knowledge.passage_search import services

    return services(gateway)


def _schemas() -> Mapping[str, Any]:
    from pydantic import BaseModel

    from headrace_workers.features.knowledge.api.vector_store_shapes import BODIES, NewFileBatch
    from headrace_workers.http.errors import REFERENCES

    bodies: tuple[type[BaseModel], ...] = (NewFileBatch, *BODIES)
    return {body.__name__: body.model_json_schema(ref_template=REFERENCES + "{model}") for body in bodies}


def _engines() -> "Sequence[Engine[Any, Any]]":
    from headrace_workers.models.embedders.load_embedder import ENGINES

    return ENGINES


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.knowledge.settings import KnowledgeSettings

    return (KnowledgeSettings,)


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.features.knowledge import tables

    return tables_in(tables)


FEATURE = Feature(
    name="knowledge",
    tables=_tables,
    routers=_routers,
    services=_services,
    groups={"knowledge": "Manage knowledge bases: add, show, search and remove documents."},
    commands=commands_in(
        "headrace_workers.features.knowledge.commands",
        {
            "knowledge add": "add",
            "knowledge list": "list_bases",
            "knowledge search": "search",
            "bench floor": "floor",
            "knowledge remove": "remove",
        },
    ),
    scopes=(KNOWLEDGE_READ, KNOWLEDGE_WRITE),
    hooks=_hooks,
    change_kinds={"document": "documents"},
    admission=_admission,
    stages=_stages,
    parts=_parts,
    schemas=_schemas,
    settings=_settings,
    extensions=(ANSWERING.by(_answering), ENGINES.by(_engines)),
)
