"""The ledger: the memory of every accepted job. Each method is one transaction over the rooms beside this file.

What only some ask stands in the file for them: `for_bridges.py`, `for_workers.py`, `for_gateways.py`, `for_people.py`.
What is one subject is a value of its own here, such as `ledger.batches`.

Errors: `Unavailable` when the database does not answer; everything may be tried again, since each transaction
either happened whole or not at all, and repeating one that did happen changes nothing.
"""

from functools import cached_property
from typing import Any

from sqlalchemy import Row, select

from headrace_workers.core.ledger.deployment import Deployment
from headrace_workers.core.ledger.for_bridges import ForBridges
from headrace_workers.core.ledger.for_gateways import ForGateways
from headrace_workers.core.ledger.for_people import ForPeople
from headrace_workers.core.ledger.for_workers import ForWorkers
from headrace_workers.core.sql.database import clock, reading
from headrace_workers.core.tables import IDENTITY
from headrace_workers.features.access.store.keys import ApiKeys
from headrace_workers.features.batches.store.bulk import Batches
from headrace_workers.features.batches.store.stored import StoredFiles
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.audits import Audits
from headrace_workers.features.evals.store.evals import Evals
from headrace_workers.features.generation.store.responses import Responses
from headrace_workers.features.knowledge.store.bases import KnowledgeBases
from headrace_workers.features.knowledge.store.file_batches import FileBatches
from headrace_workers.features.knowledge.store.vector_stores import VectorStores
from headrace_workers.features.moderation.store.policies import Policies
from headrace_workers.features.quality.store.labels import Labels
from headrace_workers.features.quality.store.pass_rates import PassRates
from headrace_workers.features.webhooks.store.webhooks import Webhooks


class Ledger(ForBridges, ForWorkers, ForGateways, ForPeople):
    """All that is known of jobs. Thread-safe; must not be carried over a fork (call `close` in the parent before)."""

    def now(self) -> int:
        """The database's clock, in ms since 1970."""
        with reading(self._engine) as tx:
            return clock(tx)

    @cached_property
    def identity(self) -> str:
        """Which ledger this is: no two have the same."""
        with reading(self._engine) as tx:
            return str(tx.execute(select(IDENTITY.c.id)).scalar_one())

    def read(self, query: Any) -> list[Row[Any]]:
        """The rows of a query of the caller's own: for checks and reports."""
        with reading(self._engine) as tx:
            return list(tx.execute(query).all())

    @cached_property
    def deployment(self) -> Deployment:
        """Whose topics and Kafka cluster it belongs to."""
        return Deployment(self._engine)

    @cached_property
    def batches(self) -> Batches:
        """The batches, and what became of their lines."""
        return Batches(self._engine)

    @cached_property
    def files(self) -> StoredFiles:
        """The files that lie in the file store."""
        return StoredFiles(self._engine)

    @cached_property
    def audits(self) -> Audits:
        """The audits of what likeness serves, and how its scopes stand."""
        return Audits(self._engine)

    @cached_property
    def answers(self) -> Answers:
        """The answers that may be given again."""
        return Answers(self._engine, self._reads)

    @cached_property
    def knowledge(self) -> KnowledgeBases:
        """The documents that answers may rest on."""
        return KnowledgeBases(self._engine)

    @cached_property
    def stores(self) -> VectorStores:
        """Knowledge bases as OpenAI's door has them."""
        return VectorStores(self._engine)

    @cached_property
    def file_batches(self) -> FileBatches:
        """Files that were put into those together."""
        return FileBatches(self._engine)

    @cached_property
    def webhooks(self) -> Webhooks:
        """Who is told of ends, and what they were told."""
        return Webhooks(self._engine, self._volatile, self._reads)

    @cached_property
    def keys(self) -> ApiKeys:
        """Who may come in over HTTP."""
        return ApiKeys(self._engine)

    @cached_property
    def labels(self) -> Labels:
        """What people say of jobs' ends."""
        return Labels(self._engine)

    @cached_property
    def pass_rates(self) -> PassRates:
        """What people would say in the mean, as it was last worked out."""
        return PassRates(self._engine)

    @cached_property
    def policies(self) -> Policies:
        """By which moderation policies workers go."""
        return Policies(self._engine)

    @cached_property
    def evals(self) -> Evals:
        """The evals of OpenAI's clients, and their runs."""
        return Evals(self._engine)

    @cached_property
    def responses(self) -> Responses:
        """What responses were asked for."""
        return Responses(self._engine)
