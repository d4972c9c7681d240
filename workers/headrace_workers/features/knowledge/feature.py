"""What knowledge adds to headrace."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.knowledge.api import (
        embeddings,
        vector_store_batches,
        vector_store_files,
        vector_stores,
    )

    return (
        embeddings.router,
        vector_stores.router,
        vector_store_files.router,
        vector_store_batches.router,
    )


def _schemas() -> Mapping[str, Any]:
    from pydantic import BaseModel

    from headrace_workers.features.knowledge.api.vector_store_batch_shapes import NewFileBatch
    from headrace_workers.features.knowledge.api.vector_store_shapes import BODIES
    from headrace_workers.http.shapes import REFERENCES

    bodies: tuple[type[BaseModel], ...] = (NewFileBatch, *BODIES)
    return {each.__name__: each.model_json_schema(ref_template=REFERENCES + "{model}") for each in bodies}


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.knowledge.commands import knowledge

    return (knowledge.register,)


FEATURE = Feature(name="knowledge", routers=_routers, schemas=_schemas, commands=_commands)
