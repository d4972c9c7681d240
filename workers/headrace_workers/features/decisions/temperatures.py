"""The calibrations of decisions, which `calibration` fits: what they hold for, and where workers read them."""

import math
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Final, NamedTuple

from sqlalchemy import JSON, BigInteger, Column, Connection, Float, Integer, String, Table, delete, select

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
    Column("fingerprint", String(64), nullable=False),  # of what the calibration holds for
    Column("temperature", Float, nullable=False),
    Column("bias", JSON, nullable=False),  # of each label, or none at all
    Column("labels", Integer, nullable=False),
    Column("made_at", BigInteger, nullable=False),
)


class Calibration(NamedTuple):
    """The temperature of a question's probabilities, and what is added to the logarithm of each label's; no bias is 0
    for all. It was fitted to labels, or to what the model says of texts without content.
    """

    temperature: float
    bias: tuple[float, ...] = ()
    labelled: bool = True


LEAST: Final = 1e-12  # probability: a label that has less can still be lifted by its bias


def digest_of(question: Question) -> str:
    """Return the digest of what a model reads of a question."""
    return sha256(question.model_dump_json(exclude={"name"}, exclude_none=True).encode()).hexdigest()


def fingerprint(model_version: str, quantization: str) -> str:
    """Return the digest of what a calibration holds for beside its question: the model, its number format, and the
    words and the scoring of this version.
    """
    return sha256(f"{model_version}\n{quantization}\n{VERSION}".encode()).hexdigest()


def tempered(probabilities: Sequence[float], temperature: float, bias: Sequence[float] = ()) -> tuple[float, ...]:
    """Return probabilities that sum to 1 at another temperature: above 1 less sure, below 1 surer. Add a `bias` to the
    logarithm of each before they are scaled.
    """
    if not bias:
        top = max(probabilities)
        weights = [math.pow(probability / top, 1 / temperature) for probability in probabilities]
    else:
        logs = [
            math.log(max(probability, LEAST)) / temperature + added
            for probability, added in zip(probabilities, bias, strict=True)
        ]
        highest = max(logs)
        weights = [math.exp(log - highest) for log in logs]
    total = math.fsum(weights)
    return tuple(weight / total for weight in weights)


Fitted = Mapping[str, tuple[Calibration | None, int]]
"""What was fitted to each question, by its digest, and to how many labels."""


def _replace(connection: Connection, tenant: str, model: str, mark: str, fitted: Fitted) -> None:
    """Write the calibration and the labels of each question; one without a calibration loses its own."""
    mine = (CALIBRATIONS.c.tenant == tenant) & (CALIBRATIONS.c.model == model)
    for question, (calibration, labels) in fitted.items():
        connection.execute(delete(CALIBRATIONS).where(mine, CALIBRATIONS.c.question == question))
        if calibration is not None:
            row = {"tenant": tenant, "model": model, "question": question, "fingerprint": mark, "labels": labels,
                   "temperature": calibration.temperature, "bias": list(calibration.bias),
                   "made_at": now_ms()}  # fmt: skip
            connection.execute(CALIBRATIONS.insert().values(row))


def _found(connection: Connection, tenant: str, model: str, mark: str) -> dict[str, Calibration]:
    """Return the calibrations of a tenant's questions to a model, by digest: those that hold for this fingerprint."""
    column = CALIBRATIONS.c
    query = select(column.question, column.temperature, column.bias, column.labels).where(
        column.tenant == tenant, column.model == model, column.fingerprint == mark
    )
    return {
        row.question: Calibration(row.temperature, tuple(row.bias), row.labels > 0) for row in connection.execute(query)
    }


class Calibrations(LedgerStore):
    """The calibrations of one ledger. Thread-safe."""

    replace = durable(_replace)
    found = reads(_found)


Temperatures = Callable[[str, str], Mapping[str, Calibration]]
"""Returns the calibrations of a tenant's questions, by their digests, for a model with this number format."""


def temperatures_of(ledger: Ledger, model: str, version: Callable[[str], str]) -> Temperatures:
    """Return the function that returns the calibrations of a model, as the ledger had them a moment ago. `version` is
    `Registry`'s.
    """
    store = ledger.of(Calibrations)

    def read(key: tuple[str, str]) -> Mapping[str, Calibration]:
        tenant, quantization = key
        return store.found(tenant, model, fingerprint(version(model), quantization))

    recent: RecentReads[tuple[str, str], Mapping[str, Calibration]] = RecentReads(read, _BELIEVED_SECONDS)
    return lambda tenant, quantization: recent((tenant, quantization))
