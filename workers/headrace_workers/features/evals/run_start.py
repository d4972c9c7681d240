"""The beginning of a run of an eval: its rows become items, and lines of a batch, a bounded part at a time."""

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Row as LedgerRow

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.core.json_lines import NoJSON, parsed, read_on
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.text_file import MOST_LINES, TooManyLines, text_of
from headrace_workers.features.evals.eval_plan import EvalPlan, Row, error_of, item_text
from headrace_workers.features.evals.states import ERROR
from headrace_workers.features.evals.store.eval_runs import NewItem
from headrace_workers.features.evals.store.evals import Evals
from headrace_workers.features.files.file_service import Files, Piecewise
from headrace_workers.features.files.object_store import StoreUnavailable

PURPOSE: Final = "eval_run"  # of the file that a run's jobs stand in
MAX_ROWS: Final = 500_000
_ROWS_AT_ONCE = 1_000  # of a run in one turn
_ITEMS_AT_ONCE = 200  # of these in one transaction
_BYTES_AT_ONCE = 4 * 1024**2  # of either, beside the one that goes beyond it
_A_LINE = 16  # bytes that a line counts for beside its own: to read millions of empty ones takes its time, too
_LONGEST_ROW = 4 * 1024**2  # bytes


class TooManyRows(HeadraceError):
    """A file has more rows than a run may have."""

    category = Category.INVALID


class Beginning:
    """The start of a run, a `turn` at a time.

    `keep` is how many seconds the file of its jobs is kept, `most_bytes` the limit of its tenant's evals. A caller that
    breaks off must `close` it. Items that were written stay, and a new start does not write them again. Raises
    NotReadable, NoSuchObject and StoreUnavailable about its files; TooManyRows, TooManyEvals.
    """

    def __init__(
        self, *, ledger: Ledger, files: Files, run: LedgerRow[Any], plan: EvalPlan, keep: float, most_bytes: int
    ) -> None:
        self.plan = plan
        self.count = 0  # rows until now
        self.tenant: str = run.tenant
        self._ledger = ledger
        self._run = run
        self._most_bytes = most_bytes
        self._stream = text_of(files.open(json.loads(run.data_source)["source"]["id"]))
        self._rows = read_on(self._stream, _LONGEST_ROW)
        self._file = Piecewise(files, tenant=run.tenant, purpose=PURPOSE, name=f"{run.id}.jsonl", keep=keep)
        self._read = 0  # bytes of the data
        self._found: list[NewItem] = []
        self._size = 0  # of what was found and is not written
        self._bytes: int = run.bytes

    def turn(self, goes_on: Callable[[], object]) -> bool:
        """Read a bounded part, and write its rows down; whether there is more. `goes_on` hears of each part that is
        written, and of the end of the turn: lines may be empty, or read over.
        """
        self._ledger.of(Evals).check_bytes(self.tenant, self._most_bytes)
        until, size = self.count + _ROWS_AT_ONCE, 0
        for read in self._rows:
            if read.number > MOST_LINES:
                raise TooManyLines
            size += read.end - self._read + _A_LINE
            self._read = read.end
            if not read.is_empty:
                self._take(read.text, read.number, read.too_long)
            if len(self._found) >= _ITEMS_AT_ONCE or self._size >= _BYTES_AT_ONCE:
                self._write(goes_on)
            if self.count >= until or size >= _BYTES_AT_ONCE:
                self._write(goes_on)
                return True
        self._write(goes_on)
        return False

    def file(self) -> LedgerRow[Any] | None:
        """Close the file when all rows are written, and return its row; None where no row makes a job."""
        return self._file.end()

    def close(self) -> None:
        """Close the data, and remove the unfinished file if the store can be reached."""
        self._stream.close()
        with suppress(StoreUnavailable):
            self._file.drop()

    def _take(self, text: bytes, number: int, too_long: bool) -> None:
        if self.count >= MAX_ROWS:
            raise TooManyRows(f"it has more than {MAX_ROWS:,} rows: split it")
        row, item = Row({}), "{}"
        try:
            if too_long:
                raise ValueError(f"it has more than {_LONGEST_ROW:,} bytes")
            row = Row.of(parsed(text))
            item = item_text(row)
            line = self.plan.line(row, self.count, self._run.id, self.tenant)
        except (NoJSON, ValueError) as error:
            sample = {"error": error_of("invalid_row", f"line {number}: {error}")}
            self._found.append(NewItem(self.count, item, ERROR, json.dumps(sample)))
        else:
            self._found.append(NewItem(self.count, item))
            self._file.add(line)
        self.count += 1
        self._size += len(item)

    def _write(self, goes_on: Callable[[], object]) -> None:
        if self._found:
            self._bytes += sum(len(each.item) + len(each.sample or "") for each in self._found)
            self._ledger.of(Evals).put_items(self._run.number, self._found, self._bytes)
            self._found, self._size = [], 0
        goes_on()
