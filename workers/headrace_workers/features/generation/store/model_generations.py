"""The generations of remote models: how often the model that answers to an alias was seen to be another one.

A provider names the model that answered. Nobody knows that name before the call, so the cache cannot look answers up
by it. It looks them up by the generation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from sqlalchemy import Connection, select, update

from headrace_workers.core.cached_values import RecentReads
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import insert, now_ms
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.features.generation.tables import MODEL_GENERATIONS
from headrace_workers.models.registry import Registry

BELIEVED_SECONDS: Final = 2.0  # for which a process relies on a generation that it has read


@dataclass(frozen=True, slots=True)
class ReturnedModel:
    """The name under which a provider answered for an alias. Another name than before begins a new generation."""

    alias: str
    returned: str

    def write(self, connection: Connection) -> None:
        """Write it; nothing where the name is the same as before."""
        mine = MODEL_GENERATIONS.c.alias == self.alias
        before = connection.execute(select(MODEL_GENERATIONS.c.returned).where(mine)).scalar_one_or_none()
        if before == self.returned:
            return
        row = {"alias": self.alias, "returned": self.returned, "generation": 0, "changed_at": now_ms()}
        if before is None:
            connection.execute(insert(connection, MODEL_GENERATIONS).values(row).on_conflict_do_nothing())
            return
        connection.execute(
            update(MODEL_GENERATIONS)
            .where(mine, MODEL_GENERATIONS.c.returned != self.returned)
            .values(returned=self.returned, generation=MODEL_GENERATIONS.c.generation + 1, changed_at=now_ms())
        )


def _generation(connection: Connection, alias: str) -> int:
    """Return the generation of an alias: 0 until a second name is returned."""
    query = select(MODEL_GENERATIONS.c.generation).where(MODEL_GENERATIONS.c.alias == alias)
    return connection.execute(query).scalar_one_or_none() or 0


def _saw(connection: Connection, alias: str, returned: str) -> None:
    """Note the name under which a provider answered for an alias."""
    ReturnedModel(alias, returned).write(connection)


class ModelGenerations(LedgerStore):
    """The generations of one ledger. Thread-safe. Unavailable when it does not answer."""

    generation = reads(_generation)
    saw = durable(_saw)


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
