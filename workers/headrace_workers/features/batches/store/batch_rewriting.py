"""Files of a batch of which objects went missing, written anew from what the ledger still has."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Connection, case, func, select, update

from headrace_workers.core.ledger.hooks import hooks
from headrace_workers.core.sql.database import among
from headrace_workers.core.tables import JOBS
from headrace_workers.features.batches.line_states import DONE, REFUSED
from headrace_workers.features.batches.store.batch_outputs import JobEnd
from headrace_workers.features.batches.store.batches import LOST, locked
from headrace_workers.features.batches.tables import BATCHES, LINES
from headrace_workers.features.files.store import files
from headrace_workers.features.files.store.files import Overtaken, Piece

_AT_ONCE = 5_000  # lines


@dataclass(frozen=True, slots=True)
class Anew:
    """A file of a batch that consisted of the objects `seen` and consists of `pieces` now. `lost` are the lines that
    it held, of this `state` (DONE or FAILED), and that could not be written again, for this `reason`.
    """

    file_id: str
    state: str
    seen: Sequence[Piece]
    pieces: Sequence[Piece]
    lost: Sequence[int]
    reason: str


def ends(connection: Connection, job_ids: Sequence[str]) -> dict[str, JobEnd]:
    """Return how these jobs ended, by id. Jobs that have not ended or are forgotten are left out."""
    query = select(JOBS.c.id, JOBS.c.state, JOBS.c.terminal_type, JOBS.c.terminal).where(
        among(connection, JOBS.c.id, job_ids), JOBS.c.terminal.is_not(None)
    )
    return {row.id: JobEnd(row.id, row.state, row.terminal_type, row.terminal) for row in connection.execute(query)}


def rewritten(connection: Connection, number: int, anew: Anew) -> None:
    """Write that a file was written anew. Raise Overtaken if the batch is over.

    Lines that are lost become refused lines: the error file will have each of them, an answer as `lost`, a failure with
    its reason. Features that read the file begin at its start again (`Hooks.on_batch_file_rewritten`).
    """
    found = locked(connection, number)
    if found is None or found.ended_at is not None:
        raise Overtaken("the batch is over")
    files.rewrite(connection, anew.file_id, anew.seen, anew.pieces)
    is_output = anew.state == DONE
    why = {"code": LOST, "reason": anew.reason} if is_output else {"reason": func.coalesce(LINES.c.reason, anew.reason)}
    for start in range(0, len(anew.lost), _AT_ONCE):
        lines = anew.lost[start : start + _AT_ONCE]
        mine = (LINES.c.batch == number) & (LINES.c.state == anew.state) & among(connection, LINES.c.number, lines)
        connection.execute(update(LINES).where(mine).values(state=REFUSED, **why))
    counted = BATCHES.c.completed if is_output else BATCHES.c.failed
    left = counted - len(anew.lost)
    changed: dict[Any, Any] = {counted: left}
    if is_output:
        changed[BATCHES.c.cached] = case((BATCHES.c.cached > left, left), else_=BATCHES.c.cached)
    if not anew.pieces:
        changed[BATCHES.c.output_file if is_output else BATCHES.c.error_file] = None
    connection.execute(update(BATCHES).where(BATCHES.c.number == number).values(changed))
    for feature in hooks():
        feature.on_batch_file_rewritten(connection, found.id, is_output)
