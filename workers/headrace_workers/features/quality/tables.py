"""The ledger's tables for labels of people, and for the verdicts that they are compared with."""

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, String, Table, Text, text

from headrace_workers.core.tables import METADATA, partial_index

_OF_ITEM = text("item IS NOT NULL")

LABELS: Final = Table(
    "labels",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("job_id", String(36), nullable=False),
    Column("kind", String(9), nullable=False),  # criterion | category
    Column("about", String(128), nullable=False),
    Column("value", Float, nullable=False),  # from 0 to 1
    Column("who", Text, nullable=False),
    Column("said_at", BigInteger, nullable=False),
    Column("probability", Float),  # with which the job was drawn to be labelled, if that is known
    Column("taken_at", BigInteger, nullable=False),
    Column("item", String(36)),  # the review item whose decision it is; absent for a label that was sent or imported
    Index("labels_about", "tenant", "kind", "about", "job_id"),
    partial_index("labels_of_items", "item", where=_OF_ITEM),
)

# Of jobs that are no more: what was said of them by the criteria and categories that people label.
VERDICTS: Final = Table(
    "verdicts",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("kind", String(9), primary_key=True),
    Column("about", String(128), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("version", String(64)),
    Column("value", Float),  # absent where there was none
    Column("probability", Float),  # with which the job was drawn to be judged; absent where all are
    Column("judged_at", BigInteger, nullable=False),
    Index("verdicts_judged", "judged_at"),
)

# Pass rates as a bridge last worked them out.
RATES: Final = Table(
    "pass_rates",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("criterion", String(128), primary_key=True),
    Column("version", String(64), primary_key=True),  # empty where the criterion has no name
    Column("value", Float, nullable=False),
    Column("low", Float, nullable=False),
    Column("high", Float, nullable=False),
    Column("level", Float, nullable=False),
    Column("labels", BigInteger, nullable=False),  # items that people labelled
    Column("verdicts", BigInteger, nullable=False),
    Column("reason", Text),  # why the verdicts were not followed, where they were not
    Column("computed_at", BigInteger, nullable=False),
)
