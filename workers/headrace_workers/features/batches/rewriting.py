"""Files of an open batch of which somebody removed objects from the store: they are written anew.

What the objects that are left hold stays. Of the other lines the ends of their jobs are in the ledger, mostly; a line
of which they are not is told in the error file, and can be run again.
"""

import io
import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import replace
from typing import Any, Final

from pydantic_core import from_json
from sqlalchemy import Row

from headrace_schemas.job import derive_job_id
from headrace_workers.core.json_lines import NoJSON, Read, parsed, read_on
from headrace_workers.core.log import Action, log
from headrace_workers.core.text_file import NotReadable, text_of
from headrace_workers.features.batches.line_admission import NoJob, Terms, terms_of
from headrace_workers.features.batches.line_jobs import LONGEST_LINE
from headrace_workers.features.batches.line_states import DONE, FAILED
from headrace_workers.features.batches.requests import is_request, job_ids, read
from headrace_workers.features.batches.store.batch_outputs import EndedLine
from headrace_workers.features.batches.store.batch_rewriting import Anew
from headrace_workers.features.batches.store.batches import BATCH_CANCELLED, BATCH_EXPIRED
from headrace_workers.features.batches.store.bulk import Batches
from headrace_workers.features.batches.written import Circumstances, written
from headrace_workers.features.files.file_service import Files
from headrace_workers.features.files.object_store import NoSuchObject, StoreUnavailable
from headrace_workers.features.files.store.files import Overtaken, Piece

_LINES_AT_ONCE: Final = 1_000  # that are asked for
_TOLD_BYTES: Final = 64 * 1024**2  # that may be read before somebody is told of it
_PIECE: Final = 8 * 1024**2  # bytes
_LONGEST_ANSWER: Final = 2**31  # bytes of a line that we wrote ourselves


class Rewriting:
    """Writes files of batches anew. Belongs to one thread; of two that write, one wins."""

    def __init__(self, *, batches: Batches, files: Files) -> None:
        self._batches = batches
        self._files = files

    def mend(self, batch: Row[Any], now: int, alive: Callable[[], object] = lambda: None) -> int:
        """Write the files of a batch anew of which objects are gone; how many lines were lost by that. `alive` is
        called meanwhile: a million lines take minutes.

        StoreUnavailable also while nothing at all of the batch is there: that is what a folder looks like that is not
        mounted. It is waited for until the batch's time is over, or a person cancels it.
        """
        ids = [name for name in (batch.input_file, batch.output_file, batch.error_file) if name is not None]
        pieces = {name: self._files.pieces(name) for name in ids}
        named = {piece for each in pieces.values() for piece in each}
        gone = self._files.gone(named)
        if gone == named and batch.expires_at > now and batch.cancelling_at is None:
            raise StoreUnavailable(
                f"nothing of {batch.id} is in the file store (HEADRACE_FILES) any more: is the right folder mounted? "
                f"It is waited for until the batch's time is over; `headrace batch cancel {batch.id}` waits no longer"
            )
        lost = 0
        for file_id, state in ((batch.output_file, DONE), (batch.error_file, FAILED)):
            if file_id is not None and not gone.isdisjoint(pieces[file_id]):
                lost += self._anew(batch, file_id, state, pieces[file_id], gone, alive)
        return lost

    def _anew(
        self,
        batch: Row[Any],
        file_id: str,
        state: str,
        seen: Sequence[Piece],
        gone: set[Piece],
        alive: Callable[[], object],
    ) -> int:
        kept = [piece for piece in seen if piece not in gone]
        there = self._numbers(kept, alive)
        missing = [line for line in self._batches.every_line(batch.number, state) if line.number not in there]
        made: list[Piece] = []
        again: set[int] = set()
        try:
            for text, numbers in _parts(self._rewrite(batch, missing, alive)):
                made.append(self._files.piece((text,), tenant=batch.tenant, of=file_id))
                again.update(numbers)
            lost = [line.number for line in missing if line.number not in again]
            reason = (
                "it had ended, but what was written of it was removed from the file store, and its job is not known "
                f"any more: `headrace batch retry-failed {batch.id}` runs it again"
            )
            self._batches.rewritten(batch.number, Anew(file_id, state, seen, [*kept, *made], lost, reason))
        except Overtaken:
            self._files.drop(made)
            return 0
        log(
            "batches", logging.WARNING, Action.FILE_MENDED,
            f"objects of {file_id} were removed from the file store: it was written anew",
            batch=batch.id, again=len(again), lost=len(lost),
        )  # fmt: skip
        return len(lost)

    def _numbers(self, pieces: Sequence[Piece], alive: Callable[[], object]) -> set[int]:
        """The lines that these hold."""
        with io.BufferedReader(self._files.together(pieces)) as stream:
            lines = _telling(read_on(stream, _LONGEST_ANSWER), alive)
            return {from_json(each.text)["line"] for each in lines}

    def _rewrite(
        self, batch: Row[Any], missing: Sequence[Row[Any]], alive: Callable[[], object]
    ) -> Iterator[tuple[int, bytes]]:
        """Yield the number and text of each missing line that can still be found."""
        terms = terms_of(batch)
        seen = Circumstances(terms, cancelled=False, late=False)
        wanted = {line.number: line for line in missing if line.reason is None}
        for line in missing:
            if line.reason is not None:  # it was refused, and the reason is kept
                refused = EndedLine(
                    line.number, line.custom_id, 0, code=line.code, reason=line.reason, param=line.param
                )
                yield line.number, written(refused, seen).text
        found: list[tuple[Row[Any], bytes | None, list[str]]] = []
        for each in _telling(self._input(batch), alive):
            if each.number in wanted:
                found.append((wanted[each.number], *_jobs_of(each, terms)))
            if len(found) >= _LINES_AT_ONCE:
                yield from self._written(found, seen)
                found.clear()
        yield from self._written(found, seen)

    def _input(self, batch: Row[Any]) -> Iterator[Read]:
        """The lines of a batch's input, as far as it can be read."""
        try:
            with text_of(self._files.open(batch.input_file)) as text:
                yield from read_on(text, LONGEST_LINE)
        except (NotReadable, NoSuchObject):
            return

    def _written(
        self, found: Sequence[tuple[Row[Any], bytes | None, list[str]]], seen: Circumstances
    ) -> Iterator[tuple[int, bytes]]:
        known = self._batches.ends([job_id for _, _, jobs in found for job_id in jobs])
        for line, text, jobs in found:
            if not jobs or any(job_id not in known for job_id in jobs):
                continue
            ended = EndedLine(line.number, line.custom_id, 0, text, tuple(known[job_id] for job_id in jobs))
            # It is what it was: the batch may have been cancelled, or become late, since then.
            as_then = replace(seen, cancelled=line.code == BATCH_CANCELLED, late=line.code == BATCH_EXPIRED)
            rewritten = written(ended, as_then)
            if (rewritten.fate.code is None) == (line.state == DONE):  # it may have been replayed
                yield line.number, rewritten.text


def _jobs_of(line: Read, terms: Terms) -> tuple[bytes | None, list[str]]:
    """The text of a line, where its answer depends on it, and the ids of the jobs that it became."""
    try:
        body = parsed(line.text)
        if is_request(body):
            return line.text, job_ids(read(body, line.number, terms))
    except (NoJob, NoJSON):  # a version that no longer reads it
        return None, []
    key = body.get("idempotency_key") if terms.own_keys else None
    return None, [derive_job_id(terms.tenant, key or terms.key(line.number))]


def _telling(lines: Iterable[Read], alive: Callable[[], object]) -> Iterator[Read]:
    """Yield these lines, and call `alive` after every so many lines or bytes."""
    told_line, told_byte = 0, 0
    for line in lines:
        if line.number - told_line >= _LINES_AT_ONCE or line.end - told_byte >= _TOLD_BYTES:
            told_line, told_byte = line.number, line.end
            alive()
        yield line


def _parts(lines: Iterable[tuple[int, bytes]]) -> Iterator[tuple[bytes, list[int]]]:
    """Lines brought together to objects, each with the numbers of its lines."""
    text, numbers = bytearray(), []
    for number, line in lines:
        text += line
        numbers.append(number)
        if len(text) >= _PIECE:
            yield bytes(text), numbers
            text, numbers = bytearray(), []
    if numbers:
        yield bytes(text), numbers
