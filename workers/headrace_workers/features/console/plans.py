"""Plans of the page *Set aside*: the ids that a person saw counted, kept under an id that a form sends. A plan is begun
once; a thread then does it in small transactions, each with how far it came, so that what a killed gateway left is gone
on with, and nothing is done twice.
"""

import json
import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Final, Literal, NamedTuple
from uuid import uuid4

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    ColumnElement,
    Connection,
    Index,
    Integer,
    String,
    Table,
    Text,
    delete,
    select,
    update,
)

from headrace_workers.core.ledger.cancellation import Cancellation, cancel
from headrace_workers.core.ledger.leases import hold
from headrace_workers.core.ledger.recovery import release_held, still_held, withhold
from headrace_workers.core.ledger.replay import replay_these
from headrace_workers.core.log import Action as Logged
from headrace_workers.core.log import log
from headrace_workers.core.sql.database import clock
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.core.tables import JOBS, METADATA
from headrace_workers.features.console.job_lists import Place

if TYPE_CHECKING:  # it loads the web framework
    from headrace_workers.http.caller import Caller

PLAN_MS: Final = 900_000  # in which a plan may be begun
KEPT_MS: Final = 86_400_000
MOST_PLANS: Final = 10  # of one person that are not begun
PART: Final = 100  # items of one transaction
Act = Literal["release", "withhold", "cancel", "replay"]

CONSOLE_PLANS: Final = Table(
    "console_plans",
    METADATA,
    Column("id", String(36), primary_key=True),
    Column("tenant", String(64), nullable=False),  # this and the next two: the person whose it is
    Column("key_id", String(16), nullable=False),
    Column("who", Text, nullable=False),
    Column("act", String(8), nullable=False),  # release | withhold | cancel | replay
    Column("everywhere", Boolean, nullable=False),  # it may hold other tenants' items
    Column("filter", Text, nullable=False),  # JSON: the conditions that the items met
    Column("items", Text, nullable=False),  # JSON: the places of the items
    Column("size", Integer, nullable=False),  # how many these are
    Column("more", Boolean, nullable=False),  # others met the conditions, too
    Column("state", String(8), nullable=False),  # planned | running | done
    Column("reason", Text, nullable=False),  # that the senders of withheld jobs read
    Column("place", Integer, nullable=False),  # items behind us: done, skipped because they are `cut`, or changed
    Column("done", Integer, nullable=False),
    Column("cut", Integer, nullable=False),
    Column("at", BigInteger, nullable=False),  # when it came further
    Column("expires_at", BigInteger, nullable=False),  # until when it may be begun
    Index("console_plans_expired", "expires_at"),
)


class Plan(NamedTuple):
    """A plan. Times are in ms since 1970; `now` is when it was read."""

    id: str
    act: Act
    everywhere: bool
    filter: Mapping[str, str]
    items: Sequence[Place]
    size: int
    more: bool
    state: str
    reason: str
    place: int
    done: int
    cut: int
    at: int
    expires_at: int
    now: int

    @property
    def expired(self) -> bool:
        """Return True if it was not begun in time."""
        return self.state == "planned" and self.expires_at <= self.now


def _mine(owner: "Caller") -> tuple[ColumnElement[bool], ...]:
    plans = CONSOLE_PLANS.c
    return plans.tenant == owner.tenant, plans.key_id == owner.key_id, plans.who == owner.name


def make(
    connection: Connection,
    owner: "Caller",
    act: Act,
    conditions: Mapping[str, str],
    items: Sequence[Place],
    *,
    more: bool,
    everywhere: bool,
) -> str:
    """Keep a plan for these items; return its id. The person's oldest ones that were not begun are forgotten."""
    now, plan_id, plans = clock(connection), str(uuid4()), CONSOLE_PLANS.c
    connection.execute(delete(CONSOLE_PLANS).where(plans.expires_at <= now - KEPT_MS))
    waiting = select(plans.id).where(*_mine(owner), plans.state == "planned").order_by(plans.expires_at.desc())
    old = connection.execute(waiting.offset(MOST_PLANS - 1)).scalars().all()
    connection.execute(delete(CONSOLE_PLANS).where(plans.id.in_(old), plans.state == "planned"))
    connection.execute(
        CONSOLE_PLANS.insert().values(
            id=plan_id, act=act, filter=json.dumps(conditions), items=json.dumps([str(place) for place in items]),
            size=len(items), more=more, everywhere=everywhere, state="planned", reason="", place=0, done=0, cut=0,
            at=now, expires_at=now + PLAN_MS, tenant=owner.tenant, key_id=owner.key_id, who=owner.name,
        )
    )  # fmt: skip
    return plan_id


def find(connection: Connection, owner: "Caller", plan_id: str) -> Plan | None:
    """Return a person's plan of this id; None where they have none."""
    row = connection.execute(select(CONSOLE_PLANS).where(CONSOLE_PLANS.c.id == plan_id, *_mine(owner))).first()
    if row is None:
        return None
    known = {name: getattr(row, name) for name in Plan._fields if name not in ("filter", "items", "now")}
    return Plan(**known, filter=json.loads(row.filter), items=_places(row.items), now=clock(connection))


def _places(items: str) -> list[Place]:
    return [place for text in json.loads(items) if (place := Place.read(text)) is not None]


def begin(connection: Connection, owner: "Caller", plan_id: str, reason: str) -> bool:
    """Begin a person's plan: True for the first who does, in its time. One that is under way counts as going on now."""
    now, plans = clock(connection), CONSOLE_PLANS.c
    waiting = (plans.id == plan_id, plans.state == "planned", plans.expires_at > now)
    begun = update(CONSOLE_PLANS).where(*waiting, *_mine(owner)).values(state="running", reason=reason, at=now)
    if connection.execute(begun).rowcount:
        return True
    running = (plans.id == plan_id, plans.state == "running", *_mine(owner))
    connection.execute(update(CONSOLE_PLANS).where(*running).values(at=now))
    return False


def do_part(connection: Connection, plan_id: str) -> int:
    """Do the next part of a plan that was begun; return how many items are left.

    Lock order: the plan, then as for what is done to its items.
    """
    plans = CONSOLE_PLANS.c
    row = connection.execute(
        select(CONSOLE_PLANS).where(plans.id == plan_id, plans.state == "running").with_for_update()
    ).first()
    if row is None:
        return 0
    items = _places(row.items)[row.place : row.place + PART]
    covered, done, cut = _do(connection, row.act, items, row.reason, row.who)
    left = row.size - row.place - covered
    values = {"place": row.place + covered, "done": row.done + done, "cut": row.cut + cut, "at": clock(connection)}
    state = "running" if left else "done"
    connection.execute(update(CONSOLE_PLANS).where(plans.id == plan_id).values(state=state, **values))
    return int(left)


def _do(connection: Connection, act: Act, items: Sequence[Place], reason: str, who: str) -> tuple[int, int, int]:
    """Do this to items that are as they were; return how many that covers, to how many it was done, and how many are
    cut.
    """
    if act == "replay":
        return replay_these(connection, [item.job_id for item in items])
    since = {item.job_id: item.at for item in items}
    if act == "cancel":
        hold(connection, sorted(since))
    jobs = still_held(connection, since)
    match act:
        case "release":
            release_held(connection, jobs)
        case "withhold":
            jobs = sorted(withhold(connection, jobs, reason))
        case "cancel":
            tenants = select(JOBS.c.id, JOBS.c.tenant).where(JOBS.c.id.in_(jobs))
            why = f"cancelled in the console by {who}"
            wanted = [Cancellation(job_id, tenant, why) for job_id, tenant in connection.execute(tenants)]
            jobs = [str(outcome) for outcome in cancel(connection, wanted, ahead=()) if outcome == "cancelled"]
    return len(items), len(jobs), 0


class Plans(LedgerStore):
    """The plans of one ledger. Thread-safe. Unavailable when it does not answer."""

    make = durable(make)
    find = reads(find)
    begin = durable(begin)
    do_part = durable(do_part)


class PlanRuns:
    """The plans that this gateway carries out, one after the other on a thread of its own. Between two parts it rests
    as long as the last one took, so that the ledger is half of the time the pipeline's alone.
    """

    def __init__(self, plans: Plans) -> None:
        self._plans = plans
        self._executor = ThreadPoolExecutor(1, "console-plans")
        self._under_way: set[str] = set()
        self._stop = threading.Event()

    def start(self, plan_id: str, ring: Callable[[], object]) -> None:
        """Go on with a plan, if it is not under way here; `ring` wakes bridges."""
        if plan_id not in self._under_way:
            self._under_way.add(plan_id)
            self._executor.submit(self._run, plan_id, ring)

    def _run(self, plan_id: str, ring: Callable[[], object]) -> None:
        try:
            left = 1
            while left and not self._stop.is_set():
                began = time.monotonic()
                left = self._plans.do_part(plan_id)
                ring()
                self._stop.wait(time.monotonic() - began)
        except Exception as error:  # its page offers to go on
            why = f"a plan of the console stopped half-way: {type(error).__name__}"
            log("gateway", logging.ERROR, Logged.REQUEST_FAILED, why, plan=plan_id)
        finally:
            self._under_way.discard(plan_id)

    def close(self) -> None:
        """Stop after the part that is under way."""
        self._stop.set()
        self._executor.shutdown(cancel_futures=True)
