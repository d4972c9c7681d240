"""The end of a claim: one transaction writes the outcomes, what follows from them, and the events to publish.

Whoever deletes the claim's row decides: a worker that lost its lease deletes nothing, and so changes nothing.
Lock order everywhere: claims, jobs, steps.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, bindparam, delete, update

from headrace_workers.ledger.database import bindparam_of, insert, now_ms, one_of
from headrace_workers.ledger.dead import Burial, active, bury, end_jobs
from headrace_workers.ledger.hand_on import HandedOn, Onward, hand_on
from headrace_workers.ledger.ingest import NewStep
from headrace_workers.ledger.outbox import Outgoing, put
from headrace_workers.ledger.sizing import next_budget
from headrace_workers.ledger.tables import BUDGETS, CLAIMS, STEPS


@dataclass(frozen=True, slots=True)
class Advanced:
    """The step is done: publish `record`; `following` become ready; with none the job has ended."""

    job_id: str
    record: Outgoing
    following: tuple[NewStep, ...] = ()


@dataclass(frozen=True, slots=True)
class Postponed:
    """Not now: ready again after `delay_ms`."""

    job_id: str
    delay_ms: int
    reason: str


Settled = Advanced | Postponed | Burial


@dataclass(frozen=True, slots=True)
class Completed:
    """A claim that was ended, when by the database's clock (ms), and what of that which follows was handed out."""

    now: int
    handed_on: HandedOn


_END = (
    delete(CLAIMS)
    .where(CLAIMS.c.id == bindparam("claim"))
    .returning(CLAIMS.c.group_key, CLAIMS.c.full, CLAIMS.c.tokens, CLAIMS.c.started_at, CLAIMS.c.size, now_ms())
)
_POSTPONE = (
    update(STEPS)
    .where(STEPS.c.claim_id == bindparam("claim"), STEPS.c.job_id == bindparam("job"))
    .values(state="waiting", claim_id=None, ready_at=bindparam("due"), reason=bindparam("why"))
)


@lru_cache
def _done(dialect: str) -> Any:
    jobs = bindparam_of(dialect, STEPS.c.job_id, name="jobs")
    return (
        update(STEPS)
        .where(STEPS.c.claim_id == bindparam("claim"), STEPS.c.state == "leased", one_of(dialect, STEPS.c.job_id, jobs))
        .values(state="done", claim_id=None, payload=None, started_at=bindparam("began"), ended_at=bindparam("ended"))
        .returning(STEPS.c.job_id)
    )


def complete(
    connection: Connection,
    claim_id: int,
    settled: Sequence[Settled],
    *,
    ran_ms: int,
    quantum_ms: int,
    onward: Onward | None = None,
) -> Completed | None:
    """Write what came of a claim; None when the lease was lost, and nothing was changed."""
    head = connection.execute(_END, {"claim": claim_id}).first()
    if head is None:
        return None
    group_key, full, tokens, started_at, size, now = head
    done = _advance(connection, claim_id, [s for s in settled if isinstance(s, Advanced)], started_at, now)
    handed_on = hand_on(connection, [step for item in done for step in item.following], onward, now)
    later = [s for s in settled if isinstance(s, Postponed)]
    _postpone(connection, claim_id, later, now)
    dead = bury(connection, [s for s in settled if isinstance(s, Burial)], now)
    if len(done) + len(later) + dead < size:  # the jobs of the rest were cancelled meanwhile
        connection.execute(
            update(STEPS).where(STEPS.c.claim_id == claim_id).values(state="cancelled", claim_id=None, ended_at=now)
        )
    if full or ran_ms > quantum_ms:
        _learn(connection, group_key, next_budget(tokens, ran_ms / 1000, quantum_ms / 1000))
    return Completed(now, handed_on)


def _advance(connection: Connection, claim_id: int, done: list[Advanced], started_at: int, now: int) -> list[Advanced]:
    """Write the steps that are done, and what is to be published; those that were still ours."""
    if not done:
        return []
    last = {item.job_id: item.record for item in done if not item.following}
    alive = active(connection, list(last))
    parameters = {
        "claim": claim_id,
        "jobs": [item.job_id for item in done if item.following or item.job_id in alive],
        "began": started_at,
        "ended": now,
    }
    held = set(connection.execute(_done(connection.dialect.name), parameters).scalars())
    end_jobs(connection, "done", [(job_id, record) for job_id, record in last.items() if job_id in held], now)
    put(connection, [item.record for item in done if item.following and item.job_id in held])
    return [item for item in done if item.job_id in held]


def _postpone(connection: Connection, claim_id: int, later: list[Postponed], now: int) -> None:
    if later:
        connection.execute(
            _POSTPONE,
            [
                {"claim": claim_id, "job": item.job_id, "due": now + item.delay_ms, "why": item.reason[:2_000]}
                for item in later
            ],
        )


def _learn(connection: Connection, group_key: str, tokens: int) -> None:
    statement = insert(connection, BUDGETS).values(group_key=group_key, tokens=tokens)
    connection.execute(
        statement.on_conflict_do_update(index_elements=["group_key"], set_={"tokens": statement.excluded.tokens})
    )
