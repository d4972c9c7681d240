"""What features do inside the transactions of the core.

A hook is called once a transaction for all that it is about, never once a job, and does no I/O beside its transaction.
The core locks claims, jobs and steps, in that order; then it calls hooks, in the order of `FEATURES`.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from sqlalchemy import Connection

from headrace_workers.core.feature import installed

if TYPE_CHECKING:
    from headrace_workers.core.ledger.incidents import Trouble


class Accounted(NamedTuple):
    """The time (ms) up to which a feature has accounted for the jobs that ended; whether `more` wait for that."""

    until: int
    more: bool = False


Account: TypeAlias = Callable[[Connection, int], Accounted]
ForgetJobs: TypeAlias = Callable[[Connection, Sequence[str]], object]
Prune: TypeAlias = Callable[[Connection, int], bool]
Results: TypeAlias = Callable[[Connection, Sequence[Mapping[str, Any]]], object]
DocumentsChanged: TypeAlias = Callable[[Connection, Mapping[int, str], str | None], object]
BatchFileRewritten: TypeAlias = Callable[[Connection, str, bool], object]
Incidents: TypeAlias = Callable[[Connection], Sequence["Trouble"]]


def _nothing_to_account(_connection: Connection, up_to_ms: int) -> Accounted:
    return Accounted(up_to_ms)


def _do_nothing(*_: Any) -> None:
    pass


def _no_incidents(_connection: Connection) -> Sequence["Trouble"]:
    return ()


def _nothing_to_prune(_connection: Connection, _older_than_ms: int) -> bool:
    return False


@dataclass(frozen=True, slots=True, kw_only=True)
class Hooks:
    """The hooks of one feature; a feature names those that it needs.

    Forgetting. `account(connection, up_to_ms)` accounts for a bounded number of the jobs that ended up to that time
    before they may be forgotten. `on_forget_jobs(connection, job_ids)` is told of jobs and units that are about to be
    forgotten: it keeps or deletes what the feature has of them. `on_prune(connection, older_than_ms)` forgets a bounded
    number of rows, and returns whether there are more.

    Between features. `on_results(connection, results)` is told once of the results of jobs, decoded, some minutes after
    they ended. `on_documents_changed(connection, reasons, version)` is told of documents of knowledge bases that
    changed or were removed: the reasons by document id, and the version that they have now (None: they are gone).
    `on_batch_file_rewritten(connection, batch_id, is_output)` is told of a batch's output or error file that was
    written anew, in other pieces.

    Questions. `incidents(connection)` returns what the feature cannot do at the moment, for `headrace status`.
    """

    account: Account = _nothing_to_account
    on_forget_jobs: ForgetJobs = _do_nothing
    on_prune: Prune = _nothing_to_prune
    on_results: Results = _do_nothing
    on_documents_changed: DocumentsChanged = _do_nothing
    on_batch_file_rewritten: BatchFileRewritten = _do_nothing
    incidents: Incidents = _no_incidents


@cache
def hooks() -> tuple[Hooks, ...]:
    """Return the hooks of all features, in their order."""
    return tuple(found for feature in installed() if (found := feature.hooks()) is not None)
