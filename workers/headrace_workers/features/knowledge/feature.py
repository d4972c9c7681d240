"""What knowledge adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.features.generation.engines.engine import Engine


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


def _commands() -> Sequence[Callable[[Any], None]]:
    from headrace_workers.features.knowledge.commands import knowledge

    return (knowledge.register,)


def _engines() -> "Sequence[Engine[Any, Any]]":
    from headrace_workers.features.knowledge.embedders.load import ENGINES

    return ENGINES


FEATURE = Feature(name="knowledge", routers=_routers, commands=_commands, engines=_engines)
