"""Queries of the review queue about draws and people."""

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping
from typing import Final

from pydantic import BaseModel, Field
from sqlalchemy import Connection, and_, case, func, select

from headrace_schemas.review import HELD, MANUAL
from headrace_workers.core.sql.database import among, clock
from headrace_workers.features.quality.store import KEPT_MS, Sampled
from headrace_workers.features.reviews.hooks import DAY_MS
from headrace_workers.features.reviews.tables import (
    REVIEW_ASSIGNMENTS,
    REVIEW_COUNTS,
    REVIEW_DECISIONS,
    REVIEW_ITEMS,
)

_MOST_DECISIONS: Final = 10_000  # the newest, from which the times of people are read

_SKIPPED: Final = (
    select(REVIEW_ASSIGNMENTS.c.item_id)
    .where(REVIEW_ASSIGNMENTS.c.item_id == REVIEW_ITEMS.c.id, REVIEW_ASSIGNMENTS.c.state == "skipped")
    .exists()
)
_STATE: Final = case((and_(REVIEW_ITEMS.c.state == "open", _SKIPPED), "skipped"), else_=REVIEW_ITEMS.c.state)
_WORDS: Final = {"done": "decided otherwise"}  # a label is missing, though somebody decided: about something else


def samples(connection: Connection, tenant: str, most: int) -> list[Sampled]:
    """Return the newest draws of the rules from a tenant's answers, with the shares that found room in the queue."""
    since = clock(connection) - KEPT_MS
    items = REVIEW_ITEMS.c
    query = (
        select(items.id, items.job_id, items.rule, items.probability, items.made_at, _STATE.label("became"))
        .where(items.tenant == tenant, items.made_at >= since, items.rule != MANUAL)
        .order_by(items.made_at.desc(), items.id.desc())
        .limit(most)
    )
    room = _room(connection, tenant)
    return [
        Sampled(
            row.id,
            row.job_id,
            row.rule,
            row.probability * room.get((row.rule, row.made_at // DAY_MS), 1.0),
            _WORDS.get(row.became, row.became),
        )
        for row in connection.execute(query)
    ]


def _room(connection: Connection, tenant: str) -> dict[tuple[str, int], float]:
    """Return, by rule and day, the share of draws that found room in the queue, where it was less than all."""
    counts = REVIEW_COUNTS.c
    query = select(counts.rule, counts.day, counts.drawn, counts.overflow).where(
        counts.tenant == tenant, counts.overflow > 0, counts.drawn > counts.overflow
    )
    return {(row.rule, row.day): 1.0 - row.overflow / row.drawn for row in connection.execute(query)}


class RuleProgress(BaseModel):
    """A rule's queue. `seen` and `overflow` are null for held jobs, which all enter."""

    rule: str = Field(description="The rule; `held` for held jobs.")
    seen: int | None = Field(description="Answers that belong to the rule.")
    drawn: int = Field(description="Answers that the rule drew.")
    decided: int = Field(description="Decisions about its items, one a person and item.")
    open: int = Field(description="Items that wait for people.")
    skipped: int = Field(description="Open items that somebody skipped.")
    done: int = Field(description="Items that as many people as are wanted have decided.")
    gone: int = Field(description="Items that ended before that.")
    overflow: int | None = Field(description="Drawn answers for which the queue had no room.")


def rules(connection: Connection, tenant: str, since: int) -> list[RuleProgress]:
    """Return what each rule drew from this time on (ms), and what became of it."""
    items, counts = REVIEW_ITEMS.c, REVIEW_COUNTS.c
    states: defaultdict[str, Counter[str]] = defaultdict(Counter)
    decided: Counter[str] = Counter()
    of_states = (
        select(
            items.rule, _STATE.label("became"), func.count().label("items"), func.sum(items.decided).label("decided")
        )
        .where(items.tenant == tenant, items.made_at >= since)
        .group_by(items.rule, _STATE)
    )
    for row in connection.execute(of_states):
        states[row.rule][row.became] = int(row.items)
        decided[row.rule] += int(row.decided)
    sums = (func.sum(counts[name]).label(name) for name in ("seen", "drawn", "overflow"))
    of_days = select(counts.rule, *sums).where(counts.tenant == tenant, counts.day >= since // DAY_MS)
    of_rules = {row.rule: row for row in connection.execute(of_days.group_by(counts.rule))}
    progresses = []
    for rule in sorted({*states, *of_rules}, key=lambda rule: (rule != HELD, rule)):
        state, count = states[rule], of_rules.get(rule)
        progresses.append(
            RuleProgress(
                rule=rule,
                seen=None if count is None else int(count.seen),
                drawn=state.total() if count is None else int(count.drawn),
                decided=decided[rule],
                open=state["open"] + state["skipped"],
                skipped=state["skipped"],
                done=state["done"],
                gone=state["gone"],
                overflow=None if count is None else int(count.overflow),
            )
        )
    return progresses


def people(connection: Connection, tenant: str, since: int) -> dict[str, Counter[str]]:
    """Return how many items each person has in each state, of those that they touched from this time on (ms)."""
    assignments = REVIEW_ASSIGNMENTS.c
    query = select(assignments.who, assignments.state, func.count().label("items")).where(
        assignments.tenant == tenant, assignments.at >= since
    )
    counts: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for row in connection.execute(query.group_by(assignments.who, assignments.state)):
        counts[row.who][row.state] = int(row.items)
    return counts


def decision_times(connection: Connection, tenant: str, since: int) -> dict[str, list[int]]:
    """Return when each person decided (ms), from this time on; of the newest decisions, without revisions."""
    decisions = REVIEW_DECISIONS.c
    query = (
        select(decisions.who, decisions.decided_at)
        .where(decisions.tenant == tenant, decisions.decided_at >= since, decisions.revision == 1)
        .order_by(decisions.number.desc())
        .limit(_MOST_DECISIONS)
    )
    times: defaultdict[str, list[int]] = defaultdict(list)
    for row in connection.execute(query):
        times[row.who].append(row.decided_at)
    return times


def rules_of_items(connection: Connection, item_ids: Collection[str]) -> Mapping[str, str]:
    """Return the rules that drew these items, by the items' ids."""
    items = REVIEW_ITEMS.c
    query = select(items.id, items.rule).where(among(connection, items.id, sorted(item_ids)))
    return {row.id: row.rule for row in connection.execute(query)}
