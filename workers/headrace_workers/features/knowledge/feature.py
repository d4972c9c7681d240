"""What knowledge adds to headrace."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.core.feature import Feature

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter

    from headrace_workers.core.environment import Variables


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


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.features.knowledge.settings import KnowledgeSettings

    return (KnowledgeSettings,)


FEATURE = Feature(name="knowledge", routers=_routers, commands=_commands, settings=_settings)
