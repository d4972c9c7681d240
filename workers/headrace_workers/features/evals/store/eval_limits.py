"""Limits of a tenant's evals: their number, runs at a time, bytes that are kept. 0 is no limit.

A transaction that adds one counts behind `alone`, so that two at one moment do not both find the last place.
"""

from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, func, select

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.features.evals.tables import EVALS, IS_OPEN, RUNS


class TooManyEvals(HeadraceError):
    """A limit of a tenant's evals, of its runs at a time, or of their bytes is reached."""

    category = Category.QUOTA


@dataclass(frozen=True, slots=True)
class EvalBounds:
    """Limits of a tenant: its evals, its runs that have not ended, and the bytes of both with the results of items."""

    evals: int = 0
    runs: int = 0
    bytes: int = 0


def check_eval(connection: Connection, tenant: str, bounds: EvalBounds) -> None:
    """Raise TooManyEvals unless the tenant may have one more eval."""
    there = _count(connection, EVALS, EVALS.c.tenant == tenant) if bounds.evals else 0
    if bounds.evals and there >= bounds.evals:
        raise TooManyEvals(
            f"the tenant {tenant} has {there:,} evals, and may have {bounds.evals:,} (HEADRACE_MAX_EVALS): delete some"
        )
    check_bytes(connection, tenant, bounds.bytes)


def check_run(connection: Connection, tenant: str, bounds: EvalBounds) -> None:
    """Raise TooManyEvals unless the tenant may have one more run under way."""
    there = _count(connection, RUNS, RUNS.c.tenant == tenant, IS_OPEN) if bounds.runs else 0
    if bounds.runs and there >= bounds.runs:
        raise TooManyEvals(
            f"the tenant {tenant} has {there:,} runs of evals that have not ended, and may have {bounds.runs:,} "
            "(HEADRACE_MAX_EVAL_RUNS): wait for one to end, or cancel one"
        )
    check_bytes(connection, tenant, bounds.bytes)


def check_bytes(connection: Connection, tenant: str, most: int) -> None:
    """Raise TooManyEvals unless the tenant may keep more bytes."""
    if not most:
        return
    of_evals = select(func.coalesce(func.sum(EVALS.c.bytes), 0)).where(EVALS.c.tenant == tenant)
    of_runs = select(func.coalesce(func.sum(RUNS.c.bytes), 0)).where(
        RUNS.c.tenant == tenant, RUNS.c.removed_at.is_(None)
    )
    kept = int(connection.execute(of_evals).scalar_one()) + int(connection.execute(of_runs).scalar_one())
    if kept >= most:
        raise TooManyEvals(
            f"evals of the tenant {tenant} and their runs keep {kept:,} bytes, and may keep {most:,} "
            "(HEADRACE_MAX_EVAL_BYTES): delete runs or evals that are not needed any more"
        )


def _count(connection: Connection, table: Any, *conditions: Any) -> int:
    return int(connection.execute(select(func.count()).select_from(table).where(*conditions)).scalar_one())
