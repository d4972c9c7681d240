"""The tables of the review queue."""

from typing import Final

from sqlalchemy import BigInteger, Column, Float, Index, Integer, LargeBinary, SmallInteger, String, Table, Text, text

from headrace_workers.core.tables import METADATA, Serial, partial_index

IS_OPEN: Final = text("review_items.state = 'open'")
IS_OPEN_OF_HELD: Final = text("review_items.state = 'open' AND review_items.stage IS NOT NULL")
IS_UNASKED: Final = text("review_items.state = 'gone' AND review_items.decided = 0")
IS_LEASED: Final = text("review_assignments.state = 'leased'")

# The rules of the deployment, as its file last said: one row.
REVIEW_RULES: Final = Table(
    "review_rules",
    METADATA,
    Column("scope", String(64), primary_key=True),  # "" for the deployment
    Column("digest", String(64), nullable=False),  # SHA-256 of the content, in hex
    Column("rules", Text, nullable=False),  # JSON: rules.ReviewRules
    Column("set_at", BigInteger, nullable=False),
    Column("refused", Text),  # why the file as it is now cannot be used
)

# What people are asked about: held steps, and ended answers that a rule drew. An item holds no text: it is read from
# its job when somebody looks.
REVIEW_ITEMS: Final = Table(
    "review_items",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("job_id", String(36), nullable=False),
    Column("rule", String(64), nullable=False),  # its stratum; HELD for held steps
    Column("stage", String(32)),  # of a held step; absent for an ended answer
    Column("ordinal", SmallInteger, nullable=False),
    Column("replays", SmallInteger, nullable=False),
    Column("application", String(96)),
    Column("rank", BigInteger, nullable=False),  # random within the stratum; of a held step: since when it is held (ms)
    Column("probability", Float, nullable=False),  # with which it was drawn; 0 where a person chose it
    Column("wanted", SmallInteger, nullable=False),  # how many people review it
    Column("decided", SmallInteger, nullable=False, server_default=text("0")),  # how many have
    Column("state", String(8), nullable=False),  # open | done | gone
    Column("reason", Text),  # why it is gone: nobody was asked, or not as many as were wanted
    Column("made_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    partial_index("review_items_open", "tenant", "rank", "id", where=IS_OPEN),
    partial_index("review_items_of_rules", "tenant", "rule", "rank", "id", where=IS_OPEN),
    partial_index("review_items_held", "id", where=IS_OPEN_OF_HELD),
    partial_index("review_items_unasked", "ended_at", where=IS_UNASKED),
    Index("review_items_job", "job_id"),
    Index("review_items_made", "tenant", "made_at", "id"),
)

# Ended answers by the first rule that they met and the day of their draw (days since 1970, UTC): all that were seen;
# those that were drawn, without those that people were asked about while they were held; and those drawn ones for which
# the queue had no room.
REVIEW_COUNTS: Final = Table(
    "review_counts",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("rule", String(64), primary_key=True),
    Column("day", Integer, primary_key=True, autoincrement=False),
    Column("seen", BigInteger, nullable=False),
    Column("drawn", BigInteger, nullable=False),
    Column("overflow", BigInteger, nullable=False),
)

# Who was given an item. A lease's number is the fence of its decision.
REVIEW_ASSIGNMENTS: Final = Table(
    "review_assignments",
    METADATA,
    Column("item_id", String(36), primary_key=True),
    Column("who", String(256), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("lease", BigInteger, nullable=False),
    Column("state", String(8), nullable=False),  # leased | decided | skipped
    Column("until", BigInteger, nullable=False),  # when the lease ends (ms)
    Column("at", BigInteger, nullable=False),  # of the last change
    Index("review_assignments_who", "tenant", "who", "at"),
    partial_index("review_assignments_leased", "item_id", "until", where=IS_LEASED),
    partial_index("review_assignments_leased_to", "tenant", "who", "until", where=IS_LEASED),
)

# Only ever added to. The newest revision of a person counts.
REVIEW_DECISIONS: Final = Table(
    "review_decisions",
    METADATA,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("item_id", String(36), nullable=False),
    Column("who", String(256), nullable=False),
    Column("revision", SmallInteger, nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("job_id", String(36), nullable=False),
    Column("lease", BigInteger, nullable=False),
    Column("key_id", String(16), nullable=False),  # of the API key that signed in; "" for the command line
    Column("action", String(8), nullable=False),  # label | release | withhold | correct | undo
    Column("decision", Text, nullable=False),  # JSON: decision.Decision
    # JSON, for training: messages as resolved, answer, correction, application. Absent where the tenant forbids it.
    Column("example", LargeBinary),
    Column("decided_at", BigInteger, nullable=False),
    Index("review_decisions_item", "item_id", "who", "revision", unique=True),
    Index("review_decisions_tenant", "tenant", "number"),
)
