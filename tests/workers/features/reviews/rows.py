"""Rows that tests of the review queue write by hand: jobs as they end and as they are held, and rules."""

import json
from collections.abc import Mapping, Sequence
from typing import Any
from uuid import UUID

from sqlalchemy import select
from tests.workers.core.ledger.rows import job, step, write

from headrace_workers.core.ledger.accounting import LAG_MS
from headrace_workers.core.ledger.job_ends import wake_waiters_of_held
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import insert, writing
from headrace_workers.core.tables import NEVER
from headrace_workers.features.reviews.rules import ReviewRules
from headrace_workers.features.reviews.tables import REVIEW_COUNTS, REVIEW_ITEMS, REVIEW_RULES

RESULT = "headrace.result.v1"


def job_id(number: int) -> str:
    return str(UUID(int=number << 64 | 5 << 76 | 8 << 60 | number))


def receipt(name: str, scores: Mapping[str, float | None] | Sequence[tuple[str, float | None]] = (), **fields: Any):
    pairs = scores.items() if isinstance(scores, Mapping) else scores
    told = [{"criterion": "rubric", "name": text, "value": value} for text, value in pairs]
    return {"job_id": name, "kind": "generation", "status": "completed", "judge": {"scores": told}} | fields


def set_rules(ledger: Ledger, *rules: Mapping[str, Any], **others: Any) -> None:
    text = ReviewRules.model_validate({"rules": rules, **others}).to_json()
    row = {"scope": "", "digest": "0" * 64, "rules": text, "set_at": 1}
    with writing(ledger.engine) as tx:
        tx.execute(insert(tx, REVIEW_RULES).values(row).on_conflict_do_update(index_elements=["scope"], set_=row))


def end(ledger: Ledger, told: Mapping[str, Any], tenant: str = "a", **fields: Any) -> None:
    """A job that has ended with this receipt, long enough ago to be accounted for."""
    ended_at = ledger.now() - LAG_MS - 1_000
    known = {"terminal": json.dumps(told).encode(), "terminal_type": RESULT, "ended_at": ended_at, "tenant": tenant}
    job(ledger, told["job_id"], **known | fields)


def hold(ledger: Ledger, name: str, stage: str = "moderate", ordinal: int = 0, *, new: bool = True, **fields: Any):
    if new:
        job(ledger, name, "active", **{key: fields.pop(key) for key in ("tenant", "replays") if key in fields})
    step(ledger, name, "held", stage, ordinal, **{"ready_at": NEVER, "held_at": ledger.now()} | fields)
    tell_held(ledger, name)


def tell_held(ledger: Ledger, *names: str) -> None:
    with writing(ledger.engine) as tx:
        wake_waiters_of_held(tx, dict.fromkeys(names, True))


def items(ledger: Ledger, **fields: Any) -> list[Any]:
    same = (REVIEW_ITEMS.c[name] == value for name, value in fields.items())
    return list(ledger.read(select(REVIEW_ITEMS).where(*same).order_by(REVIEW_ITEMS.c.rank)))


def counts(ledger: Ledger) -> dict[tuple[str, str], tuple[int, int, int]]:
    """How many answers of each tenant and rule were seen, were drawn, and found no room."""
    return {(row.tenant, row.rule): (row.seen, row.drawn, row.overflow) for row in ledger.read(select(REVIEW_COUNTS))}


__all__ = ["counts", "end", "hold", "items", "job", "job_id", "receipt", "set_rules", "step", "tell_held", "write"]
