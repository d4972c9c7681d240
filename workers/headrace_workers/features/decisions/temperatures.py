"""The temperatures of decisions, which `calibration` fits: what they hold for, and where workers read them."""

import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final

from sqlalchemy import BigInteger, Column, Connection, Float, Integer, String, Table, delete, select

from headrace_workers.core.cached_values import RecentReads
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import now_ms
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.core.tables import METADATA
from headrace_workers.features.decisions.prompts import VERSION, Question

_BELIEVED_SECONDS: Final = 2.0

CALIBRATIONS: Final = Table(
    "decision_calibrations",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("model", String(64), primary_key=True),
    Column("question", String(64), primary_key=True),  # its digest
    Column("fingerprint", String(64), nullable=False),  # of what the temperature holds for
    Column("temperature", Float, nullable=False),
    Column("labels", Integer, nullable=False),
    Column("made_at", BigInteger, nullable=False),
)


def digest_of(question: Question) -> str:
    """Return the digest of what a model reads of a question."""
    return sha256(question.model_dump_json(exclude={"name"}, exclude_none=True).encode()).hexdigest()


def fingerprint(model_version: str, quantization: str) -> str:
    """Return the digest of what a temperature holds for beside its question: the model, its number format, and the
    words and the scoring of this version.
    """
    return sha256(f"{model_version}\n{quantization}\n{VERSION}".encode()).hexdigest()


def tempered(probabilities: Sequence[float], temperature: float) -> tuple[float, ...]:
    """Return probabilities that sum to 1 at another temperature: above 1 less sure, below 1 surer."""
    top = max(probabilities)
    weights = [math.pow(probability / top, 1 / temperature) for probability in probabilities]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


def _replace(
    connection: Connection, tenant: str, model: str, mark: str, temperatures: Mapping[str, tuple[float | None, int]]
) -> None:
    """Write the temperature and the labels of each question, by its digest; one without a temperature loses its own."""
    mine = (CALIBRATIONS.c.tenant == tenant) & (CALIBRATIONS.c.model == model)
    for question, (temperature, labels) in temperatures.items():
        connection.execute(delete(CALIBRATIONS).where(mine, CALIBRATIONS.c.question == question))
        if temperature is not None:
            row = {"tenant": tenant, "model": model, "question": question, "fingerprint": mark, "labels": labels,
                   "temperature": temperature, "made_at": now_ms()}  # fmt: skip
            connection.execute(CALIBRATIONS.insert().values(row))


def _temperatures(connection: Connection, tenant: str, model: str, mark: str) -> dict[str, float]:
    """Return the temperatures of a tenant's questions to a model, by digest: those that hold for this fingerprint."""
    column = CALIBRATIONS.c
    query = select(column.question, column.temperature).where(
        column.tenant == tenant, column.model == model, column.fingerprint == mark
    )
    return {row.question: row.temperature for row in connection.execute(query)}


class Calibrations(LedgerStore):
    """The temperatures of one ledger. Thread-safe."""

    replace = durable(_replace)
    temperatures = reads(_temperatures)


Temperatures = Callable[[str, str], Mapping[str, float]]
"""Returns the temperatures of a tenant's questions, by their digests, for a model with this number format."""


def temperatures_of(ledger: Ledger, model: str, version: Callable[[str], str]) -> Temperatures:
    """Return what tells the temperatures of a model, as the ledger had them a moment ago. `version` is `Registry`'s."""
    store = ledger.of(Calibrations)

    def read(key: tuple[str, str]) -> Mapping[str, float]:
        tenant, quantization = key
        return store.temperatures(tenant, model, fingerprint(version(model), quantization))

    recent: RecentReads[tuple[str, str], Mapping[str, float]] = RecentReads(read, _BELIEVED_SECONDS)
    return lambda tenant, quantization: recent((tenant, quantization))
