"""The versions of models, as cached answers depend on them."""

from collections.abc import Callable
from typing import Final

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.recent_reads import RecentReads
from headrace_workers.features.generation.models.registry import Registry
from headrace_workers.features.generation.store.model_generations import ModelGenerations

BELIEVED_SECONDS: Final = 2.0  # for which a process relies on a generation that it has read


def model_versions(registry: Registry, ledger: Ledger, believed: float = BELIEVED_SECONDS) -> Callable[[str], str]:
    """Return what tells the version of a model by its alias: see `Registry.version`. That of a remote model has its
    endpoint, and the alias's generation in the ledger, which may be `believed` seconds old. It raises Unavailable.
    """
    generations = RecentReads(ledger.of(ModelGenerations).generation, believed)

    def version(alias: str) -> str:
        if alias not in registry or registry.get(alias).remote is None:
            return registry.version(alias)
        registry.aliases()  # the catalogue may name another endpoint now
        return f"{registry.version(alias)}/{generations(alias)}"

    return version
