"""Deployment that a ledger belongs to: the prefix of its topics, and the Kafka cluster that they are on.

A bridge of another deployment would take over duties of this one and publish its events where nobody waits for them. So
the first bridge states what it is, and each process that is something else refuses to start.
"""

from collections.abc import Mapping
from enum import StrEnum

from sqlalchemy import Connection, Engine, delete, select

from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.sql.database import clock, insert, reading, writing
from headrace_workers.core.tables import DEPLOYMENT, READERS


class Fact(StrEnum):
    """Property that identifies a deployment."""

    PREFIX = "prefix"
    CLUSTER = "cluster"


_DIFFERS = {
    Fact.PREFIX: "the ledger belongs to the topics that begin with {stated!r}, and HEADRACE_TOPIC_PREFIX is {found!r} "
    "here: correct HEADRACE_TOPIC_PREFIX or HEADRACE_LEDGER",
    Fact.CLUSTER: "the ledger belongs to the Kafka cluster {stated!r}, and HEADRACE_KAFKA leads to the cluster "
    "{found!r}: correct HEADRACE_KAFKA or HEADRACE_LEDGER",
}
_ON_PURPOSE = ". To move this ledger there on purpose, stop its processes and run `headrace ledger bind`"


class Deployment:
    """Identity that a ledger states. Thread-safe."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    def stated(self) -> dict[Fact, str]:
        """Return the facts that are stated."""
        with reading(self._engine) as tx:
            return _stated(tx)

    def differs(self, fact: Fact, found: str) -> str | None:
        """Return in words how the ledger disagrees; None where it agrees, or states nothing of this."""
        stated = self.stated().get(fact)
        return None if stated in (None, found) else _DIFFERS[fact].format(stated=stated, found=found) + _ON_PURPOSE

    def require(self, fact: Fact, found: str) -> None:
        """Raise ConfigurationError where the ledger disagrees."""
        if reason := self.differs(fact, found):
            raise ConfigurationError(reason)

    def state(self, fact: Fact, found: str) -> None:
        """State this where nothing is stated yet. Raise ConfigurationError where the ledger disagrees."""
        if fact not in self.stated():
            with writing(self._engine) as tx:
                tx.execute(insert(tx, DEPLOYMENT).values(name=fact, value=found).on_conflict_do_nothing())
        self.require(fact, found)

    def restate(self, facts: Mapping[Fact, str]) -> dict[Fact, str]:
        """State these in place of what was; return that. Raise ConfigurationError while a bridge reads for it."""
        with writing(self._engine) as tx:
            living = select(READERS.c.name).where(READERS.c.lease_until > clock(tx)).order_by(READERS.c.name)
            if names := list(tx.execute(living).scalars()):
                raise ConfigurationError(f"the bridge {names[0]} runs with this ledger: stop all bridges first")
            before = _stated(tx)
            tx.execute(delete(DEPLOYMENT))
            for fact, value in facts.items():
                tx.execute(insert(tx, DEPLOYMENT).values(name=fact, value=value))
        return before

    def forget(self) -> None:
        """State nothing any more: the next bridge does."""
        if self.stated():
            with writing(self._engine) as tx:
                tx.execute(delete(DEPLOYMENT))


def _stated(connection: Connection) -> dict[Fact, str]:
    return {Fact(row.name): row.value for row in connection.execute(select(DEPLOYMENT))}
