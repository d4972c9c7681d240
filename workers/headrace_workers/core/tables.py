"""The ledger's tables. Times are milliseconds since 1970 by the database's clock.

Every index is partial, so that finished work costs the hot path nothing however much of it is kept.
"""

from types import ModuleType
from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Index,
    Integer,
    LargeBinary,
    MetaData,
    SmallInteger,
    String,
    Table,
    Text,
    TextClause,
    false,
    func,
    text,
)

METADATA: Final = MetaData()

RELEASED: Final = "released"
SILENT: Final = "audit"  # the kind of a unit whose death nobody need see to
DROPPED: Final = "dropped"  # how a unit ends that nobody wants any more

# The states of a step that is not over.
LIVE: Final = ("ready", "waiting", "parked", "held", "leased")

# "No deadline", so that `ORDER BY deadline` needs no NULLS LAST and stays on the index.
NEVER: Final = 2**62

# SQLite numbers rows by itself only for INTEGER.
Serial = BigInteger().with_variant(Integer, "sqlite")
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
# Of a batch's line: what is under way, and what has ended and is not yet in the batch's output.
IS_UNDER_WAY: Final = text("jobs.batch IS NOT NULL AND jobs.state = 'active'")
IS_TO_COLLECT: Final = text("jobs.batch IS NOT NULL AND jobs.state <> 'active'")
# Of a lost call: its cost became known after an end of its job had told a bound, and is to be counted.
IS_KNOWN_LATE: Final = text("lost_calls.amount IS NOT NULL AND lost_calls.told_at IS NOT NULL")
MAY_EXPIRE: Final = text(f"steps.deadline < {NEVER} AND steps.state IN ('ready', 'waiting', 'parked', 'held')")

_OF_APPLICATION = text("application IS NOT NULL")
_CORRELATED = text("correlationid IS NOT NULL")
_NAMED = text("ce_id IS NOT NULL")
_CLAIMED = text("claim_id IS NOT NULL")
_SET_ASIDE = text("set_aside_at IS NOT NULL")
_IS_UNIT = text("subject IS NOT NULL")


def partial_index(name: str, *columns: str, where: TextClause, unique: bool = False) -> Index:
    """Return an index of the rows that meet a condition, on both databases."""
    return Index(name, *columns, unique=unique, postgresql_where=where, sqlite_where=where)


def _index_of_few(name: str) -> Index:
    """Return the index of a column that few dead letters have, such as those by which a refused record is found."""
    return partial_index(f"dead_letters_{name}", name, where=text(f'"{name}" IS NOT NULL'))


JOBS: Final = Table(
    "jobs",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("kind", String(16), nullable=False),  # generation | evaluation | embedding | moderation | unit | audit
    # Of a unit, which follows an event (see event_units.py): the job or batch of the event, and the endpoint.
    Column("subject", String(36)),
    Column("endpoint", Text),
    Column("state", String(12), nullable=False),  # active | done | dead | cancelled | dropped
    Column("payload", LargeBinary, nullable=False),  # the job as it came, or as its application was resolved
    # Of an application's job: the value as it came, and the version, such as ticket-triage@3.
    Column("sent", LargeBinary),
    Column("application", String(96)),
    Column("traceparent", String(64)),
    Column("correlationid", Text),  # of who sent it, handed through to every event
    Column("ce_id", Text),  # of the event that brought it, where its id does not come from that
    Column("replays", SmallInteger, nullable=False, server_default=text("0")),
    Column("accepted_at", BigInteger, nullable=False),
    Column("ended_at", BigInteger),
    Column("terminal_type", String(64)),  # CloudEvents type of `terminal`
    Column("terminal", LargeBinary),  # the event that ended it: Result, JobCancelled or DeadLetter
    # Of a batch's line, until its end is in the batch's output: the batch's number, and the line's.
    Column("batch", BigInteger),
    Column("line", Integer),
    partial_index("jobs_active", "accepted_at", where=IS_ACTIVE),
    partial_index("jobs_units", "subject", where=IS_OPEN_UNIT),
    partial_index("jobs_open_units", "endpoint", where=IS_OPEN_UNIT),
    partial_index("jobs_subject", "subject", where=_IS_UNIT),
    partial_index(
        "jobs_ended",
        "ended_at",
        where=text("ended_at IS NOT NULL"),
    ),
    partial_index("jobs_of_batches", "batch", "line", where=IS_UNDER_WAY),
    partial_index("jobs_ended_of_batches", "batch", "line", where=IS_TO_COLLECT),
    partial_index("jobs_application", "application", "ended_at", where=_OF_APPLICATION),
    partial_index("jobs_correlation", "correlationid", where=_CORRELATED),
    partial_index("jobs_ce_id", "ce_id", where=_NAMED),
)

AS_SENT: Final = func.coalesce(JOBS.c.sent, JOBS.c.payload)  # the value of a job as it came

STEPS: Final = Table(
    "steps",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("stage", String(32), primary_key=True),
    # Number of times that the job had gone back to an earlier stage when it came here.
    Column("ordinal", SmallInteger, primary_key=True, server_default=text("0")),
    # ready | waiting (for its next attempt) | parked (for another job) | held (for a person, or until something works)
    # | leased | done | dead | cancelled
    Column("state", String(12), nullable=False),
    Column("waits_for", String(36)),  # of a step that is parked: the job whose end it waits for
    Column("woken_by", String(36)),  # of one that was: that job; of one that was held: RELEASED
    Column("queue", String(96), nullable=False),
    Column("group_key", String(256), nullable=False),
    Column("lane", SmallInteger, nullable=False),  # 0 interactive, 1 batch
    Column("rank", SmallInteger, nullable=False),  # 9 - priority: the smaller, the more urgent
    Column("deadline", BigInteger, nullable=False),  # when it expires
    # By when its sender wants it: steps that are due sooner go first. NEVER for a batch's line, and for a unit: the end
    # of a batch's window, or of a unit's patience, is when they expire, and makes none of them more urgent than
    # another.
    Column("due", BigInteger, nullable=False, server_default=text(str(NEVER))),
    Column("turn", BigInteger, nullable=False),  # fair order among tenants, see fair_queueing.py
    Column("tokens", Integer, nullable=False),  # rough cost, for sizing groups
    Column("prefix", BigInteger),  # digest of the long system prompt that its prompt begins with, where it has one
    Column("attempts", SmallInteger, nullable=False, server_default=text("0")),
    Column("crashes", SmallInteger, nullable=False, server_default=text("0")),  # weighted: see recovery.py
    # When it became, or will become, ready; of one that is parked, at the latest; of one that is held, by itself.
    Column("ready_at", BigInteger, nullable=False),
    Column("held_at", BigInteger),  # since when it is held, also while it is tried again
    Column("waited_since", BigInteger),  # when it first waited, for this model where a model runs it
    Column("started_at", BigInteger),
    Column("ended_at", BigInteger),
    Column("claim_id", BigInteger),
    Column("event_type", String(64), nullable=False),
    Column("payload", LargeBinary),  # the event that the step reads; absent when it is the job itself, or done
    Column("context", LargeBinary),  # JSON that goes on with the job and was not published; absent when done
    # Columns that a worker reads: job, event and context.
    Column("read_bytes", Integer, nullable=False, server_default=text("0")),
    Column("reason", Text),  # of the last Retry or Dead
    partial_index(
        "steps_ready",
        "queue", "lane", "rank", "due", "turn", "job_id",
        where=IS_READY,
    ),
    partial_index(
        "steps_ready_group",
        "queue", "group_key", "lane", "rank", "due", "turn", "job_id",
        where=IS_READY,
    ),
    partial_index("steps_parked", "waits_for", where=IS_PARKED),
    partial_index("steps_held", "ready_at", where=IS_HELD),
    partial_index("steps_held_since", "held_at", where=IS_HELD),
    partial_index("steps_waiting", "ready_at", where=IS_WAITING),
    partial_index("steps_parked_until", "ready_at", where=IS_PARKED),
    partial_index("steps_claimed", "claim_id", where=_CLAIMED),
    partial_index("steps_expiring", "deadline", where=MAY_EXPIRE),
)  # fmt: skip

# One row for each group that was assigned. Its id is the fencing token; deleting it ends the lease. The id is drawn
# at random (claims.py): one that is counted comes again when the ledger is restored from a backup.
CLAIMS: Final = Table(
    "claims",
    METADATA,
    Column("id", Serial, primary_key=True, autoincrement=True),
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
    sqlite_autoincrement=True,
)

OUTBOX: Final = Table(
    "outbox",
    METADATA,
    Column("id", Serial, primary_key=True, autoincrement=True),
    Column("topic", String(64), nullable=False),
    Column("key", _Key),
    Column("headers", Text, nullable=False),  # JSON object
    Column("value", LargeBinary, nullable=False),
    Column("set_aside_at", BigInteger),  # when Kafka refused it; what follows under its key waits behind it
    Column("set_aside_reason", Text),
    partial_index("outbox_set_aside", "key", where=_SET_ASIDE),
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
    Column("code", String(32)),
    Column("reason", Text, nullable=False),
    Column("failure", String(16)),  # why its answer does not have the format that the job asks for
    Column("place", Text),  # where
    Column("stage", String(32), nullable=False),
    Column("attempts", SmallInteger, nullable=False),
    Column("topic", String(64), nullable=False),
    # Ids in a refused record, as far as they could be read, at most 1,024 bytes each.
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
    *(_index_of_few(name) for name in ("failure", "refers_to", "key", "ce_id", "ce_subject", "correlationid")),
)

# Jobs that a gateway has admitted, until the ledger has them from Kafka.
ACCEPTED: Final = Table(
    "accepted",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),
    Column("digest", String(64), nullable=False),  # SHA-256 of what the job says, in hex
    Column("at", BigInteger, nullable=False),
    Column("published", Boolean, nullable=False, server_default=false()),  # Kafka has confirmed it
    Column("senders", Integer, nullable=False, server_default="1"),  # requests that sent it, or are about to
    Index("accepted_at", "at"),
)

# Calls of models whose outcome nobody recorded: see core/ledger/accounting.py. Money is in micro-units.
LOST_CALLS: Final = Table(
    "lost_calls",
    METADATA,
    Column("job_id", String(36), primary_key=True),
    Column("claim_id", BigInteger, primary_key=True, autoincrement=False),  # under which its worker made it
    Column("model", String(64), nullable=False),
    Column("currency", String(3)),  # this and the next: absent where its price is not known
    Column("bound", BigInteger),  # the most that it may have cost
    Column("amount", BigInteger),  # what it did cost, once that is known
    Column("told_at", BigInteger),  # when an end of its job told the bound
    partial_index("lost_calls_known", "job_id", where=IS_KNOWN_LATE),
)

# One row: all jobs that ended until then are accounted for: see core/ledger/accounting.py.
COUNTED: Final = Table(
    "usage_counted",
    METADATA,
    Column("what", String(32), primary_key=True),
    Column("until", BigInteger, nullable=False),
)

# Virtual times in each queue, lane and urgency, for fair order: of its clock (the tenant ""), and of each tenant's
# batches (by their numbers) and other jobs (0). See fair_queueing.py.
TURNS: Final = Table(
    "turns",
    METADATA,
    Column("queue", String(96), primary_key=True),
    Column("lane", SmallInteger, primary_key=True, autoincrement=False),
    Column("urgency", SmallInteger, primary_key=True, autoincrement=False),
    Column("tenant", String(64), primary_key=True),
    Column("flow", BigInteger, primary_key=True, autoincrement=False),
    Column("weight", SmallInteger, nullable=False, server_default=text("1")),  # what a token counted for at the last
    Column("turn", BigInteger, nullable=False),
)

# Number of tokens that a group may have to fit the time quantum, learnt from the groups before: see claims.py.
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

# The bridges that take jobs in, and until when each is there unless it says so again.
READERS: Final = Table(
    "readers",
    METADATA,
    Column("name", String(128), primary_key=True),
    Column("lease_until", BigInteger, nullable=False),
)

# Position of ingest in each partition, and the bridge that reads it: see runtime/bridge/partitions.py.
POSITIONS: Final = Table(
    "positions",
    METADATA,
    Column("topic", String(255), primary_key=True),  # with the deployment's prefix
    Column("partition", Integer, primary_key=True),
    Column("log", String(64), nullable=False),  # which log: a topic that was made anew begins at 0 again
    Column("next", BigInteger, nullable=False),  # the offset that comes next
    Column("reader", String(128)),
    Column("fingerprints", Text),  # JSON: some of the records that were read, see core/ledger/positions.py
    # When the log was last found not to match them (ms), up to which offset it had been read, from which it was read
    # again, and the time of the newest record of before. If only `back_at` and `back_to` are there, the ledger was
    # restored: the log had been read up to `back_to`.
    Column("back_at", BigInteger),
    Column("back_from", BigInteger),
    Column("back_to", BigInteger),
    Column("back_before", BigInteger),
    Column("read_until", BigInteger),  # a time (ms): what Kafka had until then is read
    Column("log_end", BigInteger),  # the offset after the last record that Kafka had of late, for its lag
)

# One row: the metrics of the ledger as a bridge saw them last, for all gateways: see core/ledger/metrics.py.
METRICS: Final = Table(
    "metrics",
    METADATA,
    Column("what", String(8), primary_key=True),
    Column("at", BigInteger, nullable=False),
    Column("value", Text, nullable=False),  # JSON
)

# Which deployment the ledger belongs to: the prefix of its topics, and the Kafka cluster. An unknown value has no row.
DEPLOYMENT: Final = Table(
    "deployment",
    METADATA,
    Column("name", String(32), primary_key=True),
    Column("value", String(255), nullable=False),
)

# Incidents of bridges, for people: what a bridge cannot do, and since when.
INCIDENTS: Final = Table(
    "troubles",
    METADATA,
    Column("holder", String(128), primary_key=True),
    Column("subject", String(255), primary_key=True),
    Column("reason", Text, nullable=False),
    Column("since", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

PROBE_SLOTS: Final = 4_096  # rows at most: a process draws one at its start, so that two hardly ever share one

# A process writes to its row, to see whether the ledger takes writes.
PROBES: Final = Table(
    "probes",
    METADATA,
    Column("slot", Integer, primary_key=True, autoincrement=False),
    Column("at", BigInteger, nullable=False),  # ms since 1970: the last probe
)

# A process that runs, or that was killed: see ledger/incidents.py.
PROCESS_STARTS: Final = Table(
    "process_starts",
    METADATA,
    Column("name", String(255), primary_key=True),
    Column("what", String(255), nullable=False),  # its command
    Column("host", String(255), nullable=False),
    Column("pid", Integer, nullable=False),
    Column("began", BigInteger, nullable=False),  # by the host's kernel: no two processes have both in common
    Column("at", BigInteger, nullable=False),  # ms since 1970, as the next one
    Column("killed_at", BigInteger),  # when a later process found that it had been
)

# Rows of features that changed: workers follow these, and read what each row is now. See ledger/change_feed.py for
# their order.
CHANGES: Final = Table(
    "changes",
    METADATA,
    Column("number", Serial, primary_key=True, autoincrement=True),
    Column("xact", BigInteger, nullable=False),  # the transaction that wrote it; 0 on SQLite, which has one at a time
    Column("kind", String(8), nullable=False, server_default="entry"),  # what changed: a feature's name for it
    Column("subject", BigInteger, nullable=False),  # its id there
    Column("at", BigInteger, nullable=False),
    Index("changes_order", "kind", "xact", "number"),
    sqlite_autoincrement=True,
)

# Position of each follower of `changes`, for people.
FOLLOWERS: Final = Table(
    "followers",
    METADATA,
    Column("holder", String(128), primary_key=True),
    Column("kind", String(8), primary_key=True),  # as in `changes`
    Column("xact", BigInteger, nullable=False),
    Column("number", BigInteger, nullable=False),
    Column("seen_at", BigInteger, nullable=False),
)

# The numbered migrations that the ledger has run (migrations.py): its version is the highest number.
MIGRATIONS: Final = Table(
    "migrations",
    METADATA,
    Column("number", Integer, primary_key=True, autoincrement=False),
    Column("name", String(64), nullable=False),
    Column("oldest", Integer, nullable=False),  # the least number that a process must know to use the ledger
    Column("applied_at", BigInteger, nullable=False),
)

# Tables of features that no migration makes: the digest of the definition by which the table was made (migrate.py).
STAMPS: Final = Table(
    "table_stamps",
    METADATA,
    Column("name", String(63), primary_key=True),
    Column("digest", String(12), nullable=False),
)


def tables_in(module: ModuleType) -> list[Table]:
    """Return the tables that a feature's module holds."""
    return [value for value in vars(module).values() if isinstance(value, Table)]
