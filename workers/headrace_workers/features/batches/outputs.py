"""Results of lines, brought into the files of their batch, which grow while it runs.

An object in the store counts once the ledger says so, in the transaction that marks its lines: until then the lines
stay to be written. So no line is in a file twice, and none is lost.
"""

import logging
from collections.abc import Sequence
from typing import Any, Final

from sqlalchemy import Row

from headrace_workers.core.log import Action, log
from headrace_workers.features.batches.store.bulk import Batches
from headrace_workers.features.batches.written import Circumstances, Written, written
from headrace_workers.features.files.file_service import Files
from headrace_workers.features.files.store.files import Growth, NewFile, Overtaken

PURPOSE: Final = "batch_output"
_LINES_AT_ONCE = 2_000
_BYTES_AT_ONCE = 8 * 1024**2


class Outputs:
    """Appends what has ended to the files of batches. Belongs to one thread; of two that append, one wins.

    `keep`: seconds that the files are kept whose batch does not say.
    """

    def __init__(self, *, batches: Batches, files: Files, keep: float) -> None:
        self._batches = batches
        self._files = files
        self._keep_ms = int(keep * 1000)

    def collect(self, batch: Row[Any], now: int) -> int:
        """Append what has ended of a batch, a bounded part; the number of lines. StoreUnavailable, Unavailable."""
        lines = self._batches.ended(batch.number, _LINES_AT_ONCE, _BYTES_AT_ONCE, together=batch.together)
        if not lines:
            return 0
        seen = Circumstances.of(batch, now)
        found = [written(line, seen) for line in lines]
        answers = [each for each in found if each.fate.code is None]
        failures = [each for each in found if each.fate.code is not None]
        output = self._growth(batch, "output", batch.output_file, answers)
        errors = self._growth(batch, "errors", batch.error_file, failures)
        try:
            self._batches.collected(batch.number, [each.fate for each in found], output, errors)
        except Overtaken as error:
            self._files.drop(growth.piece for growth in (output, errors) if growth)
            log(
                "batches", logging.DEBUG, Action.LEASE_LOST, f"lines were collected by another: {error}", batch=batch.id
            )
            return 0
        return len(found)

    def digests(self, batch: Row[Any]) -> dict[str, str]:
        """The digests of a batch's files, which grow no more."""
        names = (name for name in (batch.output_file, batch.error_file) if name is not None)
        return {name: self._files.settle(name) for name in names}

    def _growth(self, batch: Row[Any], what: str, file_id: str | None, found: Sequence[Written]) -> Growth | None:
        if not found:
            return None
        name = file_id or f"file-{batch.id.removeprefix('batch_')}-{what}"
        keep_ms = self._keep_ms if batch.output_ms is None else batch.output_ms
        file = NewFile(id=name, tenant=batch.tenant, purpose=PURPOSE, name=f"{batch.id}_{what}.jsonl", keep_ms=keep_ms)
        return self._files.growth(file, b"".join(each.text for each in found))
