"""The ledger's tables. Times are milliseconds since 1970 by the database's clock.

Every index is partial, so that finished work costs the hot path nothing however much of it is kept.
"""

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    false,
    text,
)

METADATA: Final = MetaData()

RELEASED: Final = "released"
SILENT: Final = "audit"  # the kind of a unit whose death nobody need see to

# The states of a step that is not over.
LIVE: Final = ("ready", "waiting", "parked", "held", "leased")

# "No deadline", so that `ORDER BY deadline` needs no NULLS LAST and stays on the index.
NEVER: Final = 2**62

# SQLite numbers rows by itself only for INTEGER.
_Serial = BigInteger().with_variant(Integer, "sqlite")
# A refused record that is published again has the key that it came with. SQLite counts no characters.
_Key = Text().with_variant(String(64), "sqlite")

# The conditions of the partial indexes. Queries use these very texts: a condition with a bound parameter in it is one
# that neither database can match with a partial index once the statement is prepared.
IS_ACTIVE: Final = text("jobs.state = 'active' AND jobs.subject IS NULL")
IS_OPEN_UNIT: Final = text("jobs.state = 'active' AND jobs.subject IS NOT NULL")
IS_READY: Final = text("steps.state = 'ready'")
IS_WAITING: Final = text("steps.state = 'waiting'")
IS_PARKED: Final = text("steps.state = 'parked'")
IS_HELD: Final = text("steps.state = 'held'")
IS_PENDING: Final = text("entries.state = 'pending'")
IS_LIVE: Final = text("entries.state = 'live'")
MAY_EXPIRE: Final = text(f"steps.deadline < {NEVER} AND steps.state IN ('ready', 'waiting', 'parked', 'held')")

_CORRELATED = text("correlationid IS NOT NULL")
_ACTIVE = text("state = 'active' AND subject IS NULL")
_OPEN_UNIT = text("state = 'active' AND subject IS NOT NULL")
_READY = text("state = 'ready'")
_WAITING = text("state = 'waiting'")
_CLAIMED = text("claim_id IS NOT NULL")
_SET_ASIDE = text("set_aside_at IS NOT NULL")
_PARKED = text("state = 'parked'")
_HELD = text("state = 'held'")
_IS_UNIT = text("subject IS NOT NULL")
_PENDING = text("state = 'pending'")
_LIVE_ENTRY = text("state = 'live'")
_DRAWN = text("share > 0")
_EXPIRING = text(f"deadline < {NEVER} AND state IN ('ready', 'waiting', 'parked', 'held')")


def _index_of_refused(name: str) -> Index:
    """Of a column by which the sender of a refused record finds it."""
    there = text(f'"{name}" IS NOT NULL')
    return Index(f"dead_letters_{name}", name, postgresql_where=there, sqlite_where=there)


JOBS: Final = Table(
    "jobs",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # generation | evaluation | unit | audit
    # Of a unit, which follows an event (see units.py): the job or batch that the event tells of, and who is to hear it.
    Column("subject", String(36)),
    Column("endpoint", Text),
    Column("state", String(12), nullable=False),  # active | done | dead | cancelled
    Column("payload", LargeBinary, nullable=False),  # the job as it came
    Column("traceparent", String(64)),
    Column("correlationid", Text),  # of who sent it, handed through to every event
    Column("replays", SmallInteger, nullable=False, server_default=text("0")),
    Column("accepted_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("terminal_type", String(64)),  # CloudEvents type of `terminal`
    Column("terminal", LargeBinary),  # the event that ended it: Result, JobCancelled or DeadLetter
    Index("jobs_active", "accepted_at", postgresql_where=_ACTIVE, sqlite_where=_ACTIVE),
    Index("jobs_units", "subject", postgresql_where=_OPEN_UNIT, sqlite_where=_OPEN_UNIT),
    Index("jobs_subject", "subject", postgresql_where=_IS_UNIT, sqlite_where=_IS_UNIT),
    Index(
        "jobs_ended",
        "ended_at",
        postgresql_where=text("ended_at IS NOT NULL"),
        sqlite_where=text("ended_at IS NOT NULL"),
    ),
    Index("jobs_correlation", "correlationid", postgresql_where=_CORRELATED, sqlite_where=_CORRELATED),
)

STEPS: Final = Table(
    "steps",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("stage", String(32), primary_key=True),
    # How often the job had gone back to an earlier stage when it came here.
    Column("ordinal", SmallInteger, primary_key=True, server_default=text("0")),
    # ready | waiting (for its next attempt) | parked (for another job) | held (for a person) | leased
    # | done | dead | cancelled
    Column("state", String(12), nullable=False),
    Column("waits_for", String(36)),  # of a step that is parked: the job whose end it waits for
    Column("woken_by", String(36)),  # of one that was: that job; of one that was held: RELEASED
    Column("queue", String(96), nullable=False),
    Column("group_key", String(256), nullable=False),
    Column("lane", SmallInteger, nullable=False),  # 0 interactive, 1 batch
    Column("rank", SmallInteger, nullable=False),  # 9 - priority: the smaller, the more urgent
    Column("deadline", BigInteger, nullable=False),
    Column("turn", BigInteger, nullable=False),  # fair order among tenants, see turns.py
    Column("tokens", Integer, nullable=False),  # rough cost, for sizing groups
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("crashes", SmallInteger, nullable=False, server_default=text("0")),  # weighted: see recover.py
    # When it became, or will become, ready; of one that is parked, at the latest.
    Column("ready_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("claim_id", BigInteger),
    Column("event_type", String(64), nullable=False),
    Column("payload", LargeBinary),  # the event that the step reads; absent when it is the job itself, or done
    Column("context", LargeBinary),  # JSON that goes on with the job and was not published; absent when done
    # What a worker reads of it: job, event and context.
    Column("read_bytes", Integer, nullable=False, server_default=text("0")),
    Column("reason", Text),  # of the last Retry or Dead
    Index(
        "steps_ready",
        "queue", "lane", "rank", "deadline", "turn", "job_id",
        postgresql_where=_READY, sqlite_where=_READY,
    ),
    Index(
        "steps_ready_group",
        "queue", "group_key", "lane", "rank", "deadline", "turn", "job_id",
        postgresql_where=_READY, sqlite_where=_READY,
    ),
    Index("steps_parked", "waits_for", postgresql_where=_PARKED, sqlite_where=_PARKED),
    Index("steps_held", "ready_at", postgresql_where=_HELD, sqlite_where=_HELD),
    Index("steps_waiting", "ready_at", postgresql_where=_WAITING, sqlite_where=_WAITING),
    Index("steps_parked_until", "ready_at", postgresql_where=_PARKED, sqlite_where=_PARKED),
    Index("steps_claimed", "claim_id", postgresql_where=_CLAIMED, sqlite_where=_CLAIMED),
    Index("steps_expiring", "deadline", postgresql_where=_EXPIRING, sqlite_where=_EXPIRING),
)  # fmt: skip

# One row for each group that was handed out. Its id is the fencing token; deleting it ends the lease.
CLAIMS: Final = Table(
    "claims",
    METADATA,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("queue", String(96), nullable=False),
    Column("stage", String(32), nullable=False),
    Column("group_key", String(256), nullable=False),
    Column("lane", SmallInteger, nullable=False),
    Column("size", SmallInteger, nullable=False),
    Column("tokens", Integer, nullable=False),
    Column("full", Boolean, nullable=False, server_default=false()),  # its token budget was what ended it
    Column("sender", String(128), nullable=False),  # the bridge or worker that handed it out
    Column("worker", String(128)),
    Column("claimed_at", BigInteger, nullable=False),
    Column("started_at", BigInteger),
    Column("renewed_at", BigInteger, nullable=False, server_default=text("0")),  # the last sign of life
    Column("lease_until", BigInteger, nullable=False),
    Index("claims_lease", "lease_until"),
    sqlite_autoincrement=True,  # a fencing token is never given out twice
)

OUTBOX: Final = Table(
    "outbox",
    METADATA,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("topic", String(64), nullable=False),
    Column("key", _Key),
    Column("headers", Text, nullable=False),  # JSON object
    Column("value", LargeBinary, nullable=False),
    Column("set_aside_at", BigInteger),  # when Kafka refused it; what follows under its key waits behind it
    Column("set_aside_reason", Text),
    Index("outbox_set_aside", "key", postgresql_where=_SET_ASIDE, sqlite_where=_SET_ASIDE),
    sqlite_autoincrement=True,
)

DEAD_LETTERS: Final = Table(
    "dead_letters",
    METADATA,
    Column("id", String(36), primary_key=True),  # of the DeadLetter event
    Column("job_id", String(36)),  # of the job that it ended; absent for a record that was refused
    Column("refers_to", String(36)),  # a refused record's: the id that its job has, or would have had
    Column("tenant", String(64)),
    Column("category", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("stage", String(32), nullable=False),
    Column("attempts", SmallInteger, nullable=False),
    Column("topic", String(64), nullable=False),
    # What a refused record said of itself, as far as it could be read, at most 1,024 bytes each.
    Column("partition", Integer),
    Column("offset", BigInteger),
    Column("key", Text),
    Column("ce_id", Text),
    Column("ce_subject", Text),
    Column("correlationid", Text),
    Column("traceparent", Text),
    Column("headers", Text, nullable=False),
    Column("value", LargeBinary, nullable=False),  # of the original record
    Column("size", Integer),  # of that value, in bytes, before it was cut
    Column("truncated", Boolean, nullable=False, server_default=false()),
    Column("died_at", BigInteger, nullable=False),
    Column("replayed_at", BigInteger),
    Index("dead_letters_died", "died_at"),
    Index("dead_letters_job", "job_id"),
    *(_index_of_refused(name) for name in ("refers_to", "key", "ce_id", "ce_subject", "correlationid")),
)

# Answers that may be given again. One is pending while its job makes it, live once moderation has allowed it, and dead
# once it was replaced, recalled or has become too old. Each change has a row in `changes`.
ENTRIES: Final = Table(
    "entries",
    METADATA,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("scope", String(64), nullable=False),  # what must be the same, the question apart: see recall/scope.py
    Column("key", String(64), nullable=False),  # of the whole request
    Column("tenant", String(64), nullable=False),
    Column("state", String(8), nullable=False),  # pending | live | dead
    Column("job_id", String(36), nullable=False),  # whose answer it is
    Column("lane", SmallInteger, nullable=False),  # of that job
    Column("question", Text),  # absent where only the very same request may be served
    Column("vector", LargeBinary),  # of the question, float32
    Column("answer", LargeBinary),  # JSON of an Answer, once live
    Column("saved_ms", Float, nullable=False, server_default=text("0")),  # a model's time for it
    Column("made_at", BigInteger, nullable=False),  # pending since, then live since
    Column("expires_at", BigInteger, nullable=False),
    Column("died_at", BigInteger),
    Column("reason", Text),  # why it died
    Index("entries_pending", "key", unique=True, postgresql_where=_PENDING, sqlite_where=_PENDING),
    Index("entries_live", "key", unique=True, postgresql_where=_LIVE_ENTRY, sqlite_where=_LIVE_ENTRY),
    Index("entries_expiring", "expires_at", postgresql_where=_LIVE_ENTRY, sqlite_where=_LIVE_ENTRY),
    Index("entries_job", "job_id"),
    Index(
        "entries_died",
        "died_at",
        postgresql_where=text("died_at IS NOT NULL"),
        sqlite_where=text("died_at IS NOT NULL"),
    ),
    sqlite_autoincrement=True,  # an id in a worker's memory never becomes another entry's
)

# That an entry or a document changed: workers follow these, and read what it is now. See changes.py for their order.
CHANGES: Final = Table(
    "changes",
    METADATA,
    Column("number", _Serial, primary_key=True, autoincrement=True),
    Column("xact", BigInteger, nullable=False),  # the transaction that wrote it; 0 on SQLite, which has one at a time
    Column("kind", String(8), nullable=False, server_default="entry"),  # entry | document
    Column("subject", BigInteger, nullable=False),  # its id
    Column("at", BigInteger, nullable=False),
    Index("changes_order", "kind", "xact", "number"),
    sqlite_autoincrement=True,
)

# Which job was served which entry: an answer that was wrong is found wherever it went.
SERVES: Final = Table(
    "serves",
    METADATA,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("job_id", String(36), nullable=False),
    Column("entry_id", BigInteger, nullable=False),
    Column("tenant", String(64), nullable=False),
    Column("scope", String(64), nullable=False),
    Column("tier", String(12), nullable=False),  # exact | coalesced | semantic
    Column("similarity", Float),
    Column("first_job", String(36), nullable=False),
    Column("saved_tokens", Integer, nullable=False),
    Column("saved_ms", Float, nullable=False),
    Column("served_at", BigInteger, nullable=False),
    Column("stratum", SmallInteger),  # of similarity: where likeness found it
    Column("share", Float),  # its chance to be audited; 0 or absent: none
    Index("serves_job", "job_id"),
    Index("serves_entry", "entry_id"),
    Index("serves_at", "served_at"),
    Index("serves_drawn", "scope", "served_at", postgresql_where=_DRAWN, sqlite_where=_DRAWN),
)

# What knowledge bases hold. Each change of a document, its chunks included, has a row in `changes`.
DOCUMENTS: Final = Table(
    "documents",
    METADATA,
    Column("id", _Serial, primary_key=True, autoincrement=True),  # the same while the document changes
    Column("tenant", String(64), nullable=False),
    Column("knowledge", String(64), nullable=False),  # the base's name
    Column("name", Text, nullable=False),  # what citations call it
    Column("sha256", String(64), nullable=False),  # of the file
    Column("format", String(16), nullable=False),  # markdown | underlined | plain: see knowledge/documents.py
    Column("embedder", Text, nullable=False),  # the id of the one that made the vectors of its chunks
    Column("size", BigInteger, nullable=False),  # of the file, in bytes
    Column("chunks", Integer, nullable=False),  # how many it has
    Column("added_at", BigInteger, nullable=False),  # as it is now
    Index("documents_name", "tenant", "knowledge", "name", unique=True),
    sqlite_autoincrement=True,  # an id in a worker's memory never becomes another document's
)

# Passages of documents, in order; whose they are is told by their document alone.
CHUNKS: Final = Table(
    "chunks",
    METADATA,
    Column("id", _Serial, primary_key=True, autoincrement=True),
    Column("document_id", BigInteger, nullable=False),
    Column("key", String(32), nullable=False),  # from its words and place: see knowledge/chunking.py
    Column("section", Text, nullable=False),
    Column("start", Integer, nullable=False),  # characters of the document's text
    Column("stop", Integer, nullable=False),
    Column("text", Text, nullable=False),
    Column("vector", LargeBinary, nullable=False),  # float32
    Index("chunks_document", "document_id", "id"),
    sqlite_autoincrement=True,  # an id in a worker's memory never becomes another chunk's
)

# Virtual time of each tenant, and of the whole (the row ""), for fair order: see turns.py.
TURNS: Final = Table(
    "turns",
    METADATA,
    Column("tenant", String(64), primary_key=True),
    Column("turn", BigInteger, nullable=False),
)

# How many tokens a group may have to fit the time quantum, learnt from the groups before: see sizing.py.
BUDGETS: Final = Table(
    "budgets",
    METADATA,
    Column("group_key", String(256), primary_key=True),
    Column("tokens", Integer, nullable=False),
    Column("learnt_at", BigInteger, nullable=False, server_default=text("0")),
)

# Duties that one bridge at a time does, such as the relay.
DUTIES: Final = Table(
    "duties",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("holder", String(128), nullable=False),
    Column("lease_until", BigInteger, nullable=False),
)

# One row: when any bridge last looked for leases that ran out. Time in which none did counts against no worker.
LOOKS: Final = Table(
    "looks",
    METADATA,
    Column("what", String(32), primary_key=True),
    Column("at", BigInteger, nullable=False),
)

# One row: which ledger this is. Made with the tables, so that a message that names another's claim is seen through.
IDENTITY: Final = Table("identity", METADATA, Column("id", String(36), primary_key=True))

# How far ingest is, where the broker's consumer groups are not used: see bridge/partitions.py.
POSITIONS: Final = Table(
    "positions",
    METADATA,
    Column("topic", String(255), primary_key=True),  # with the deployment's prefix
    Column("partition", Integer, primary_key=True),
    Column("log", String(64), nullable=False),  # which log: a topic that was made anew begins at 0 again
    Column("next", BigInteger, nullable=False),  # the offset that comes next
)

# What a bridge has to say to people: what it cannot do, and since when.
TROUBLES: Final = Table(
    "troubles",
    METADATA,
    Column("holder", String(128), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)
