"""The ledger's table of moderation policies: the last version in force, so that a change is reported once."""

from typing import Final

from sqlalchemy import Column, String, Table, Text

from headrace_workers.core.tables import METADATA

POLICIES: Final = Table(
    "policies",
    METADATA,
    Column("tenant", String(64), primary_key=True),  # "" is for all that have none of their own
    Column("version", String(64), nullable=False),
    Column("refused", Text),  # of "": why what the file says now was refused
)
