"""The table of scores that are counted."""

from typing import Final

from sqlalchemy import BigInteger, Column, String, Table

from headrace_workers.core.tables import METADATA

# The scores of all jobs that are counted as having ended (see `usage_counted`), by kind of criterion. Names of criteria
# are users', and without bound.
SCORES: Final = Table(
    "scores_counted",
    METADATA,
    Column("criterion", String(64), primary_key=True),
    Column("not_judged", String(32), primary_key=True),  # the code of why there is no value; "" where there is one
    Column("scores", BigInteger, nullable=False),
)
