"""The files feature: files and uploads of OpenAI's clients, and what batches write."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from headrace_workers.core.feature import Feature
from headrace_workers.core.scopes import Scope

if TYPE_CHECKING:  # most processes do without it
    from fastapi import APIRouter
    from sqlalchemy import Table

    from headrace_workers.core.environment import Variables
    from headrace_workers.http.services import GatewayParts

FILES_READ: Final = Scope("files:read")
FILES_WRITE: Final = Scope("files:write")


def _routers() -> "Sequence[APIRouter]":
    from headrace_workers.features.files import api

    return (api.router, api.uploads_router)


def _services(gateway: "GatewayParts") -> Mapping[type, object]:
    from headrace_workers.features.files.api import services

    return services(gateway)


def _settings() -> "Sequence[type[Variables]]":
    from headrace_workers.files.settings import FileSettings

    return (FileSettings,)


def _tables() -> "Sequence[Table]":
    from headrace_workers.core.tables import tables_in
    from headrace_workers.files import tables

    return tables_in(tables)


FEATURE = Feature(
    name="files",
    tables=_tables,
    routers=_routers,
    services=_services,
    scopes=(FILES_READ, FILES_WRITE),
    settings=_settings,
)
