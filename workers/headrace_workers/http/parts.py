"""Parts of a gateway for the services that features build for their routes."""

from contextlib import ExitStack
from dataclasses import dataclass

from headrace_workers.core.admission import KnownEmbedder
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.progress import Progress
from headrace_workers.runtime.settings import Settings
from headrace_workers.runtime.wire.hints import Broadcast


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayParts:
    """Parts of a gateway for its features. `followers` are woken when answers or documents have changed, and `at_end`
    is closed after the last request.
    """

    name: str
    settings: Settings
    ledger: Ledger
    progress: Progress
    embedder: KnownEmbedder
    followers: Broadcast
    at_end: ExitStack
