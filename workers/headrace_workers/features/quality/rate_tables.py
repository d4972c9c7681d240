"""The ledger's tables of what bridges work out of verdicts: pass rates until they do so again, and counts of scores."""

from typing import Final

from sqlalchemy import BigInteger, Column, Float, String, Table, Text

from headrace_workers.core.tables import METADATA

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

# The scores of all jobs that are counted as having ended (see `usage_counted`), by kind of criterion. Names of criteria
# are users', and without bound.
SCORES: Final = Table(
    "scores_counted",
    METADATA,
    Column("criterion", String(64), primary_key=True),
    Column("not_judged", String(32), primary_key=True),  # the code of why there is no value; "" where there is one
    Column("scores", BigInteger, nullable=False),
)
