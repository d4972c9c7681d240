"""The files of a gateway."""

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Final

from headrace_workers.features.files.file_service import Files, files_in
from headrace_workers.features.files.store.stored import StoredFiles
from headrace_workers.features.files.store_work import StoreWork
from headrace_workers.features.files.upload_service import Uploads
from headrace_workers.http.parts import GatewayParts

_THREADS: Final = 8


def services(gateway: GatewayParts) -> Mapping[type, object]:
    """Return what the routes of files and uploads work with, by class."""
    files = files_in(gateway.settings, gateway.ledger)
    return {
        Files: files,
        Uploads: Uploads(gateway.ledger.of(StoredFiles), files),
        StoreWork: StoreWork(ThreadPoolExecutor(_THREADS, "store")),
    }
