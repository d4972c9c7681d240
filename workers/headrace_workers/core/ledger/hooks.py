"""Work of features inside the transactions of the core.

A hook is called once a transaction for all that it is about, never once a job, and does no I/O outside its transaction.
The core locks claims, jobs and steps, in that order; then it calls hooks, in the order of `FEATURES`.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, TypeAlias

from sqlalchemy import ColumnElement, Connection

from headrace_workers.core.feature import installed

if TYPE_CHECKING:
    from headrace_workers.core.ledger.accounting import FinishedJob, KnownCost
    from headrace_workers.core.ledger.dead_letters import Burial, ReceivedReview
    from headrace_workers.core.ledger.incidents import Incident
    from headrace_workers.core.ledger.ingest import NewJob
    from headrace_workers.core.ledger.model_calls import WantedCall, WantedWork
    from headrace_workers.core.ledger.outcome import StepWrite

Condition: TypeAlias = ColumnElement[bool]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Hooks:
    """The hooks of one feature; a feature names the hooks that it needs.

    Ingest. `on_admit(connection, jobs, tenants)` returns the new jobs that exceed a quota, each with the reason; their
    rows are removed. `tenants` are all tenants whose rows the transaction may change. `on_ingest(connection, jobs)`
    gets the jobs that were admitted. `on_refused(connection, refused, jobs)` gets the records that are refused, and the
    jobs that were known before or exceed a quota. `on_reviews(connection, reviews)` takes in people's reviews of jobs,
    and returns refusals. `hold_tenants(connection, tenants)` locks the feature's rows of these tenants, for a
    transaction that changes those of some jobs before those of others.

    Completion. `concerns()` returns a condition on a row of JOBS, read when the job is locked: whether the job's
    completion concerns the feature. `hold_rows(connection, rows, job_ids, tenants)` locks what these rows of steps will
    change, and what the completion of these jobs, which concern the feature, will. `tenants` are those of all jobs that
    the transaction may end or route to a model. `on_completion(connection, terminals)` gets
    the jobs that concern the feature, each with the value of its terminal event. For a unit the value is the cost of
    its calls of models, in the form of a result, or None.

    Calls. `on_calls(connection, calls)` gets the jobs that concern the feature and are routed to a model again, each
    with the call, in the transaction that routes them; it returns the jobs that may not call the model, each with the
    reason. `on_work(connection, works)` gets dead jobs that go on where they died, and units that ask a model; it
    returns those that may not, each with the reason. `on_known_costs(connection, costs)` gets lost calls that were
    charged with the most that they may have cost, and whose true costs have become known; their jobs are locked.

    Holding. `on_held(connection, jobs)` gets the jobs that are held: True for those that wait for a person, False for
    those that wait until something works.
    `on_withheld(connection, job_ids, reason)` gets the held jobs that were ended instead of released.

    Questions. `known_tenants(connection, limit)` returns at most `limit` tenants that the feature knows.
    `incidents(connection)` returns the feature's present incidents, for `headrace status`.

    Time. `is_due(now)` returns a condition on the feature's tables that is true if `on_reap` has something to do, by
    the database's clock. `on_reap(connection)` does a bounded part of it, in a transaction of its own.
    `on_results(connection, jobs)` gets each job that has ended with a result, once, some minutes later, and
    `on_ends(connection, jobs)` each job that has ended in any way.

    Forgetting. `on_forget_jobs(connection, job_ids)` gets the jobs and units that are about to be deleted: it keeps or
    deletes the feature's rows of them. `on_prune(connection, older_than_ms)` forgets a bounded number of rows, and
    returns whether there are more.
    """

    on_admit: Callable[[Connection, Sequence["NewJob"], Collection[str]], Mapping[str, str]] | None = None
    on_ingest: Callable[[Connection, Sequence["NewJob"]], object] | None = None
    on_refused: Callable[[Connection, Sequence["Burial"], Sequence["NewJob"]], object] | None = None
    on_reviews: Callable[[Connection, Sequence["ReceivedReview"]], Sequence["Burial"]] | None = None
    hold_tenants: Callable[[Connection, Collection[str]], object] | None = None
    concerns: Callable[[], Condition] | None = None
    hold_rows: Callable[[Connection, Sequence["StepWrite"], Sequence[str], Collection[str]], object] | None = None
    on_completion: Callable[[Connection, Mapping[str, bytes | None]], object] | None = None
    on_calls: Callable[[Connection, Mapping[str, "WantedCall"]], Mapping[str, str]] | None = None
    on_work: Callable[[Connection, Sequence["WantedWork"]], Mapping[str, str]] | None = None
    on_known_costs: Callable[[Connection, Sequence["KnownCost"]], object] | None = None
    on_held: Callable[[Connection, Mapping[str, bool]], object] | None = None
    on_withheld: Callable[[Connection, Sequence[str], str], object] | None = None
    known_tenants: Callable[[Connection, int], Collection[str]] | None = None
    is_due: Callable[[Any], Condition] | None = None
    on_reap: Callable[[Connection], object] | None = None
    on_results: Callable[[Connection, Sequence["FinishedJob"]], object] | None = None
    on_ends: Callable[[Connection, Sequence["FinishedJob"]], object] | None = None
    on_forget_jobs: Callable[[Connection, Sequence[str]], object] | None = None
    on_prune: Callable[[Connection, int], bool] | None = None
    incidents: Callable[[Connection], Sequence["Incident"]] | None = None


@cache
def hooks() -> tuple[Hooks, ...]:
    """Return the hooks of all features, in their order."""
    return tuple(feature.hooks() for feature in installed() if feature.hooks is not None)


def hold_tenants(connection: Connection, tenants: Collection[str]) -> None:
    """Let each feature lock its rows of these tenants."""
    for feature in hooks():
        if feature.hold_tenants is not None:
            feature.hold_tenants(connection, tenants)
