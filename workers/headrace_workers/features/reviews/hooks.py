"""Entry into the review queue, and the end of items without enough decisions. Nothing is added to a job's own path."""

import hashlib
import logging
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, Literal

from pydantic import TypeAdapter, ValidationError
from pydantic_core import from_json
from sqlalchemy import Connection, Row, Select, bindparam, delete, func, select, update

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.review import HELD, MANUAL, ReviewRule
from headrace_workers.core.identity import review_item_id
from headrace_workers.core.ledger.accounting import FinishedJob
from headrace_workers.core.ledger.cancellation import UNKNOWN
from headrace_workers.core.ledger.incidents import Incident
from headrace_workers.core.log import Action, log
from headrace_workers.core.sql.database import among, bindparam_of, clock, insert, insert_many, many, now_ms, one_of
from headrace_workers.core.sql.paging import AT_ONCE, lock_some
from headrace_workers.core.sql.statements import run
from headrace_workers.core.sql.store import LedgerStore, durable, reads
from headrace_workers.core.tables import DEAD_LETTERS, JOBS, NEVER, STEPS
from headrace_workers.features.quality.store import KEPT_MS
from headrace_workers.features.reviews.decision import Conflict, NoSuchItem
from headrace_workers.features.reviews.rules import (
    ANSWER_STAGES,
    BEHIND_HELD,
    ReviewRules,
    Stratum,
    drawn,
    parse_rules,
    rule_of,
    rules_in,
    text_of,
)
from headrace_workers.features.reviews.tables import (
    IS_OPEN,
    IS_OPEN_OF_HELD,
    IS_UNASKED,
    REVIEW_ASSIGNMENTS,
    REVIEW_COUNTS,
    REVIEW_ITEMS,
    REVIEW_RULES,
)

DAY_MS: Final = 86_400_000
_MAX_REASON: Final = 2_000
FORGOTTEN: Final = "its job was forgotten: jobs are kept for HEADRACE_RETENTION"
_KINDS: Final = ("generation", "evaluation")
_MOST_KEPT: Final = 1_000  # versions of applications whose rules are kept
_RULES: Final = TypeAdapter(tuple[ReviewRule, ...])
OF_VERSIONS: Final[dict[str, tuple[ReviewRule, ...] | None]] = {}  # by digest; None without rules of its own

_ITEM: Final = (
    "id", "tenant", "job_id", "rule", "stage", "ordinal", "replays", "application", "rank", "probability", "wanted",
    "state", "made_at",
)  # fmt: skip
_SUMS: Final = ("seen", "drawn", "overflow")


def current_rules(connection: Connection) -> ReviewRules:
    """Return the deployment's rules, as a bridge last wrote them."""
    text = connection.execute(select(REVIEW_RULES.c.rules).where(REVIEW_RULES.c.scope == "")).scalar()
    return ReviewRules() if text is None else rules_in(text)


# The deployment's rules. Hooks have no settings: a bridge writes what its file says into the ledger.


def put_rules(
    connection: Connection, rules: ReviewRules | None, refused: str | None = None
) -> Literal["changed", "refused"] | None:
    """Write the rules as their file says them now, or why it is `refused`: then the rules stay as they were. Return
    what is new; None if all was known.
    """
    row = standing(connection)
    before = "{}" if row is None else row.rules
    text = before if rules is None else rules.to_json()
    if row is not None and (row.rules, row.refused) == (text, refused):
        return None
    digest = hashlib.sha256(text.encode()).hexdigest()
    values = {"digest": digest, "rules": text, "refused": refused, "set_at": now_ms()}
    statement = insert(connection, REVIEW_RULES).values(scope="", **values)
    connection.execute(statement.on_conflict_do_update(index_elements=["scope"], set_=values))
    if refused is not None:
        return "refused"
    return None if text == before else "changed"


def standing(connection: Connection) -> Row[Any] | None:
    """Return the row of the rules: since when they are as they are (ms), and why their file is `refused`, if it is."""
    return connection.execute(select(REVIEW_RULES).where(REVIEW_RULES.c.scope == "")).one_or_none()


def incidents(connection: Connection) -> Sequence[Incident]:
    """Return what `headrace status` says of a file of rules that cannot be used."""
    row = standing(connection)
    if row is None or row.refused is None:
        return ()
    return (Incident("bridges", "review rules", f"{row.refused}. The rules of before stay in force", row.set_at),)


# Held steps.


@lru_cache
def _steps_of(dialect: str) -> Select[Any]:
    """Return the query for all steps of some jobs. A condition on the state would be an index of all that is held:
    PostgreSQL may read that from end to end.
    """
    jobs = bindparam_of(dialect, STEPS.c.job_id, name="jobs")
    columns = (
        STEPS.c.state, STEPS.c.ready_at, STEPS.c.job_id, STEPS.c.stage, STEPS.c.ordinal, STEPS.c.held_at,
        JOBS.c.tenant, JOBS.c.replays, JOBS.c.application,
    )  # fmt: skip
    joined = select(*columns).join(JOBS, JOBS.c.id == STEPS.c.job_id)
    return joined.where(one_of(dialect, STEPS.c.job_id, jobs), JOBS.c.subject.is_(None))


@lru_cache
def _enter(dialect: str) -> Any:
    """Return the statement that enters held steps. One that was released, and is held again at the same place, has an
    item already: it is open again, for one more person.
    """
    statement = insert_many(dialect, REVIEW_ITEMS, [REVIEW_ITEMS.c[name] for name in _ITEM], {})
    again = {
        "state": "open", "reason": None, "ended_at": None, "rank": statement.excluded.rank,
        "wanted": REVIEW_ITEMS.c.decided + 1,
    }  # fmt: skip
    return statement.on_conflict_do_update(index_elements=["id"], set_=again, where=REVIEW_ITEMS.c.state != "open")


def enter_held(connection: Connection, jobs: Mapping[str, bool]) -> None:
    """Enter the held steps of the jobs that wait for a person."""
    asked = [job_id for job_id, needs_person in jobs.items() if needs_person]
    if not asked:
        return
    dialect = connection.dialect.name
    steps = run(connection, _steps_of(dialect), {"jobs": asked})
    rows = [
        {
            "id": review_item_id(tenant, job_id, stage, ordinal, replays, HELD), "tenant": tenant, "job_id": job_id,
            "rule": HELD, "stage": stage, "ordinal": ordinal, "replays": replays, "application": application,
            "rank": held_at, "probability": 1.0, "wanted": 1, "state": "open", "made_at": held_at,
        }
        for state, ready_at, job_id, stage, ordinal, held_at, tenant, replays, application in steps
        if state == "held" and ready_at >= NEVER
    ]  # fmt: skip
    if rows:
        rows.sort(key=lambda row: str(row["id"]))  # they lock in this order
        run(connection, _enter(dialect), many(dialect, rows))


# Ended answers.


def draw_ended(connection: Connection, jobs: Sequence[FinishedJob]) -> None:
    """Enter the answers that the rules draw, and count all that belong to a rule. Each job comes once for each end."""
    current = current_rules(connection)
    own = _own_rules(connection, [job for job in jobs if job.application is not None])
    counts: defaultdict[tuple[str, str], Counter[str]] = defaultdict(Counter)
    entering = []
    for job in jobs:
        if not _is_asked_about(job.result):
            continue
        rules = None if job.application is None else own.get(_version(job).get("digest", ""))
        if (rule := rule_of(current.rules if rules is None else rules, job.tenant, job.result)) is None:
            continue
        counts[job.tenant, rule.name]["seen"] += 1
        if (stratum := drawn(rule, job.result["job_id"])) is not None:
            entering.append((job, stratum))
    if not counts:
        return
    now = clock(connection)
    if entering:
        held = _were_held(connection, [job.result["job_id"] for job, _ in entering])
        entering = [(job, stratum) for job, stratum in entering if job.result["job_id"] not in held]
        _write(connection, _fitting(connection, entering, current, counts), current, now)
    _count(connection, counts, now // DAY_MS)


def _is_asked_about(receipt: Mapping[str, Any]) -> bool:
    """Return True if a receipt has an answer that people may be asked about. No text is left of a blocked one."""
    if receipt.get("kind") not in _KINDS or receipt.get("status") == "blocked":
        return False
    return "evaluation" not in (receipt.get("metadata") or {})


def _own_rules(connection: Connection, jobs: Iterable[FinishedJob]) -> Mapping[str, tuple[ReviewRule, ...] | None]:
    """Return, by digest, the rules of the versions of applications that these jobs were resolved with; None for those
    that have no rules. Versions that the ledger does not have are left out.
    """
    versions = {version["digest"]: (version["name"], job.tenant) for job in jobs if (version := _version(job))}
    unknown = versions.keys() - OF_VERSIONS.keys()
    if unknown:
        if len(OF_VERSIONS) + len(unknown) > _MOST_KEPT:
            OF_VERSIONS.clear()
            unknown = set(versions)
        from headrace_workers.features.applications.store import review_rules

        rules = review_rules(connection, {digest: versions[digest] for digest in unknown})
        OF_VERSIONS.update({digest: None if text is None else _rules_in(text) for digest, text in rules.items()})
    return OF_VERSIONS


def _version(job: FinishedJob) -> Mapping[str, Any]:
    version = job.result.get("application") or {}
    return version if "digest" in version else {}


def _rules_in(text: str) -> tuple[ReviewRule, ...] | None:
    """Return an application's rules; None where a later headrace wrote them."""
    try:
        return _RULES.validate_json(text, strict=True)
    except ValidationError:
        return None


def _were_held(connection: Connection, job_ids: Sequence[str]) -> frozenset[str]:
    """Return which of these jobs a person was asked about while they were held for their answer."""
    items = REVIEW_ITEMS.c
    query = select(items.job_id).where(
        among(connection, items.job_id, job_ids), items.rule == HELD, items.stage.in_(ANSWER_STAGES)
    )
    return frozenset(connection.execute(query).scalars())


def _fitting(
    connection: Connection,
    entering: Sequence[tuple[FinishedJob, Stratum]],
    current: ReviewRules,
    counts: Mapping[tuple[str, str], Counter[str]],
) -> list[tuple[FinishedJob, Stratum]]:
    """Return the answers for which their rules' queues have room; count the others as overflow."""
    if not entering:
        return []
    items = REVIEW_ITEMS.c
    query = (
        select(items.tenant, items.rule, func.count())
        .where(
            IS_OPEN,
            among(connection, items.tenant, sorted({job.tenant for job, _ in entering})),
            among(connection, items.rule, sorted({stratum.rule.name for _, stratum in entering})),
        )
        .group_by(items.tenant, items.rule)
    )
    open_items = Counter({(tenant, rule): number for tenant, rule, number in connection.execute(query)})
    found = []
    for job, stratum in entering:
        queue = job.tenant, stratum.rule.name
        counts[queue]["drawn"] += 1
        if open_items[queue] < current.most_open:
            open_items[queue] += 1
            found.append((job, stratum))
        else:
            counts[queue]["overflow"] += 1
    return found


def _write(
    connection: Connection, entering: Sequence[tuple[FinishedJob, Stratum]], current: ReviewRules, now: int
) -> None:
    if not entering:
        return
    rows = []
    for job, (rule, rank) in entering:
        job_id = job.result["job_id"]
        item_id = review_item_id(job.tenant, job_id, None, 0, job.replays, rule.name)
        rows.append({
            "id": item_id, "tenant": job.tenant, "job_id": job_id, "rule": rule.name, "stage": None, "ordinal": 0,
            "replays": job.replays, "application": job.application, "rank": rank, "probability": rule.share,
            "wanted": current.people_of(rule), "state": "open", "made_at": now,
        })  # fmt: skip
    _insert(connection, rows)


def _insert(connection: Connection, rows: Sequence[Mapping[str, Any]]) -> None:
    dialect = connection.dialect.name
    statement = insert_many(dialect, REVIEW_ITEMS, [REVIEW_ITEMS.c[name] for name in _ITEM], {})
    connection.execute(statement.on_conflict_do_nothing(index_elements=["id"]), many(dialect, rows))


def _count(connection: Connection, counts: Mapping[tuple[str, str], Counter[str]], day: int) -> None:
    """Add to the sums of a day. The accounting does one batch at a time, so that nobody waits for these rows."""
    dialect = connection.dialect.name
    keys = ("tenant", "rule", "day")
    statement = insert_many(dialect, REVIEW_COUNTS, [REVIEW_COUNTS.c[name] for name in (*keys, *_SUMS)], {})
    sums = {name: REVIEW_COUNTS.c[name] + statement.excluded[name] for name in _SUMS}
    rows = [
        {"tenant": tenant, "rule": rule, "day": day, **{name: count[name] for name in _SUMS}}
        for (tenant, rule), count in sorted(counts.items())
    ]
    connection.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=sums), many(dialect, rows))


def enter_by_hand(connection: Connection, tenant: str, job_id: str) -> str:
    """Enter an ended answer of a tenant that a person sends; return the id of its open item. Its labels count in no
    estimate. Raise NoSuchItem where there is no such job, and Conflict where nobody can be asked about it.
    """
    items, columns = REVIEW_ITEMS.c, (JOBS.c[name] for name in ("state", "replays", "application", "terminal"))
    query = select(*columns).where(JOBS.c.id == job_id, JOBS.c.tenant == tenant, JOBS.c.subject.is_(None))
    # It is kept from being deleted meanwhile.
    job = connection.execute(query.with_for_update(read=True, key_share=True)).first()
    if job is None:
        raise NoSuchItem("this tenant has no job of this id")
    if job.state != "done" or not _is_asked_about(from_json(job.terminal)):
        raise Conflict("people are asked about answers that can be shown, and this job has none")
    waiting = select(items.id).where(items.job_id == job_id, items.stage.is_(None), IS_OPEN).limit(1)
    if (known := connection.execute(waiting).scalar()) is not None:
        return str(known)
    current, now = current_rules(connection), clock(connection)
    mine = select(func.count()).select_from(REVIEW_ITEMS).where(items.tenant == tenant, items.rule == MANUAL, IS_OPEN)
    if connection.execute(mine).scalar_one() >= current.most_open:
        raise Conflict(f"{current.most_open:,} answers that people sent wait already: decide about some first")
    item_id = review_item_id(tenant, job_id, None, 0, job.replays, MANUAL)
    _insert(connection, [{
        "id": item_id, "tenant": tenant, "job_id": job_id, "rule": MANUAL, "stage": None, "ordinal": 0,
        "replays": job.replays, "application": job.application, "rank": BEHIND_HELD, "probability": 0.0,
        "wanted": current.people, "state": "open", "made_at": now,
    }])  # fmt: skip
    return item_id


# Items that end without enough decisions.


def gone_reasons(connection: Connection, item_ids: Collection[str]) -> dict[str, str]:
    """Return why items are to be gone, by id: their job was forgotten, or their step waits for a person no longer."""
    items = REVIEW_ITEMS.c
    letter = (
        select(DEAD_LETTERS.c.reason)
        .where(DEAD_LETTERS.c.job_id == items.job_id)
        .order_by(DEAD_LETTERS.c.died_at.desc())
        .limit(1)
        .scalar_subquery()
    )
    query = (
        select(
            items.id, items.stage, items.replays, JOBS.c.state.label("job"), JOBS.c.replays.label("now"),
            STEPS.c.state.label("step"), STEPS.c.ready_at, letter.label("letter"),
        )
        .join(JOBS, (JOBS.c.id == items.job_id) & (JOBS.c.kind != UNKNOWN), isouter=True)
        .join(
            STEPS,
            (STEPS.c.job_id == items.job_id) & (STEPS.c.stage == items.stage) & (STEPS.c.ordinal == items.ordinal),
            isouter=True,
        )
        .where(among(connection, items.id, list(item_ids)))
    )  # fmt: skip
    return {row.id: reason for row in connection.execute(query) if (reason := _gone(row)) is not None}


def _gone(row: Any) -> str | None:
    if row.job is None:
        return FORGOTTEN
    if row.stage is None:
        return None
    match row.job:
        case "cancelled":
            why = "cancelled"
        case "dead":
            return f"its job is dead: {row.letter or 'its letter was forgotten'}"
        case _ if row.now != row.replays:
            why = "replayed, and began anew"
        case _:
            waits = row.step == "held" and row.ready_at >= NEVER
            why = "" if waits else "released elsewhere"
    return f"its job was {why}" if why else None


def close(connection: Connection, reasons: Mapping[str, str]) -> None:
    """Close these items, which are locked, each with its reason."""
    if reasons:
        over = update(REVIEW_ITEMS).where(REVIEW_ITEMS.c.id == bindparam("item"), IS_OPEN)
        gone = over.values(state="gone", reason=bindparam("why"), ended_at=now_ms())
        connection.execute(gone, [{"item": item, "why": reasons[item][:_MAX_REASON]} for item in sorted(reasons)])


def close_held(connection: Connection, after: str) -> str | None:
    """Close the items whose steps wait for a person no longer, of a bounded number of open items after this id. Return
    the id of the last one that was looked at; None if there were no more.
    """
    query = select(REVIEW_ITEMS.c.id).where(IS_OPEN_OF_HELD, REVIEW_ITEMS.c.id > after)
    ids = connection.execute(query.order_by(REVIEW_ITEMS.c.id).limit(AT_ONCE)).scalars().all()
    reasons = gone_reasons(connection, ids)
    if reasons:
        # Items that others hold come next time. They are looked at again: a step may be held anew.
        free = lock_some(connection, REVIEW_ITEMS.c.id, IS_OPEN & among(connection, REVIEW_ITEMS.c.id, sorted(reasons)))
        close(connection, gone_reasons(connection, free))
    return ids[-1] if len(ids) == AT_ONCE else None


def close_of_jobs(connection: Connection, job_ids: Sequence[str]) -> None:
    """Close the open items of these jobs, which are about to be forgotten."""
    theirs = among(connection, REVIEW_ITEMS.c.job_id, job_ids)
    ids = connection.execute(
        select(REVIEW_ITEMS.c.id).where(theirs, IS_OPEN).order_by(REVIEW_ITEMS.c.id).with_for_update()
    )
    close(connection, dict.fromkeys(ids.scalars(), FORGOTTEN))


def forget_items(connection: Connection, _older_than_ms: int) -> bool:
    """Forget a bounded number of old items that nobody decided about, and counts of as long ago; return True if there
    may be more.
    """
    before = now_ms() - KEPT_MS
    old = lock_some(connection, REVIEW_ITEMS.c.id, IS_UNASKED & (REVIEW_ITEMS.c.ended_at < before))
    if old:
        connection.execute(delete(REVIEW_ASSIGNMENTS).where(among(connection, REVIEW_ASSIGNMENTS.c.item_id, old)))
        connection.execute(delete(REVIEW_ITEMS).where(among(connection, REVIEW_ITEMS.c.id, old)))
    first_day = (clock(connection) - KEPT_MS) // DAY_MS
    connection.execute(delete(REVIEW_COUNTS).where(REVIEW_COUNTS.c.day < first_day))
    return len(old) == AT_ONCE


class ReviewQueue(LedgerStore):
    """The rules and items of one ledger. Thread-safe. Unavailable when it does not answer."""

    rules = reads(current_rules)
    standing = reads(standing)
    put_rules = durable(put_rules)
    enter_by_hand = durable(enter_by_hand)
    close_held = durable(close_held)


class ReviewUpkeep:
    """Do a bounded part of the queue's upkeep; the reaping bridge calls it once a minute."""

    def __init__(self, queue: ReviewQueue, path: Path, *, required: bool) -> None:
        """Follow the rules in a file, which may be missing if it is not `required`."""
        self._queue, self._path, self._required = queue, path, required
        self._text: bytes | None = None  # of the file when it was last read
        self._rules, self._refused = ReviewRules(), ""
        self._after = ""

    def __call__(self) -> bool:
        """Copy the rules, and close items that nobody need decide about any more; return True if there is more."""
        if not self._after:
            self._copy()
        self._after = self._queue.close_held(self._after) or ""
        return bool(self._after)

    def _copy(self) -> None:
        self._read()
        match self._queue.put_rules(None if self._refused else self._rules, self._refused or None):
            case "refused":
                why = f"the review rules stay as they were: {self._refused}"
                log("reviews", logging.ERROR, Action.RULES_REFUSED, why)
            case "changed":
                log("reviews", logging.INFO, Action.RULES_CHANGED, f"answers are drawn by the rules in {self._path}")

    def _read(self) -> None:
        try:
            text = text_of(self._path, required=self._required)
            if text != self._text:
                self._text, self._refused = text, ""
                self._rules = parse_rules(text, str(self._path))
        except ConfigurationError as error:
            self._refused = str(error)[:_MAX_REASON]
