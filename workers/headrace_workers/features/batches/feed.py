"""Feeding batches: their lines become jobs, each exactly once, as there is room."""

import logging
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from sqlalchemy import Row

from headrace_workers.core.json_lines import Read, read_on
from headrace_workers.core.log import Action, log
from headrace_workers.core.text_file import NotReadable, text_of
from headrace_workers.features.batches.line_admission import Admit, terms_of
from headrace_workers.features.batches.line_jobs import LONGEST_LINE, admitted, passed_over
from headrace_workers.features.batches.store.batch_feeding import Chunk
from headrace_workers.features.batches.store.batch_lines import NewLine
from headrace_workers.features.batches.store.batches import CANCELLING, UNREADABLE
from headrace_workers.features.batches.store.bulk import Batches
from headrace_workers.features.files.file_service import Files

_LINES_AT_ONCE = 500  # of one batch in one transaction
_BYTES_AT_ONCE = 4 * 1024**2
_A_LINE = 16  # bytes that a line counts for beside its own: to read millions of empty ones takes its time, too
_SKIP = 1024**2  # bytes
# Of what is compressed, read over at once: others' batches go on meanwhile, and nobody takes the bridge for stuck.
_SKIPPED_AT_ONCE = 256 * 1024**2


@dataclass
class _Reading:
    """An open input. `ahead` are lines that were read and not taken yet: the first of them stands at `position`, after
    `line` lines.
    """

    stream: BinaryIO
    position: int
    line: int
    lines: Iterator[Read]
    ahead: deque[Read] = field(default_factory=deque)
    to_skip: int = 0  # bytes that are to be read over first, as it cannot be sought in

    def skip(self) -> bool:
        """Read over a bounded part of that. Return True at `position`, or at the end of a shorter text."""
        last = max(0, self.to_skip - _SKIPPED_AT_ONCE)
        while self.to_skip > last:
            skipped = self.stream.read(min(self.to_skip - last, _SKIP))
            self.to_skip = self.to_skip - len(skipped) if skipped else 0
        return self.to_skip == 0

    def up_to(self, position: int, line: int) -> None:
        """Forget the lines before this position, which were taken."""
        self.position, self.line = position, line
        while self.ahead and self.ahead[0].end <= position:
            self.ahead.popleft()

    def __iter__(self) -> Iterator[Read]:
        """Read all lines from `position` on."""
        yield from tuple(self.ahead)
        for read in self.lines:
            self.ahead.append(read)
            yield read


class Feed:
    """The feed of all batches of a ledger. Belongs to one thread. Where two feed, each line is taken once.

    `admit` gives what decides about records at the moment.
    """

    def __init__(self, *, batches: Batches, files: Files, admit: Callable[[], Admit]) -> None:
        self._batches = batches
        self._files = files
        self._admit = admit
        self._open: dict[int, _Reading] = {}

    def feed(
        self,
        batch: Row[Any],
        room: int,
        now: int,
        counted: Callable[[], AbstractContextManager[None]] = nullcontext,
    ) -> tuple[int, bool]:
        """Take in up to so many lines of a batch. Return how many, and whether the rest waits for the budget.

        `counted` is around what a line may end the process in: opening its input, and making jobs of lines. Raise
        NotReadable and NoSuchObject where its input cannot be read on; StoreUnavailable, Unavailable.
        """
        room = min(room, _LINES_AT_ONCE)
        if batch.position == UNREADABLE:
            chunk = _unread(batch, room)
        else:
            with counted():
                reading = self._reading(batch)
            if not reading.skip():
                return 0, False
            with counted():
                chunk = self._chunk(batch, reading, room, now)
        fed = self._batches.feed(batch.number, batch.position, chunk)
        if fed is None:  # another has read on
            self.forget(batch.number)
            return 0, False
        if batch.number in self._open:
            self._open[batch.number].up_to(fed.position, fed.line)
        if fed.jobs:
            log("batches", logging.DEBUG, Action.TAKEN, "took lines in", batch=batch.id, new=fed.jobs)
        return fed.lines, fed.waits

    def close(self) -> None:
        """Close all inputs."""
        for number in list(self._open):
            self.forget(number)

    def forget(self, number: int) -> None:
        """Close the input of a batch. It is opened again when it is needed."""
        if (reading := self._open.pop(number, None)) is not None:
            reading.stream.close()

    def _reading(self, batch: Row[Any]) -> _Reading:
        """Return the batch's input at the next line."""
        reading = self._open.get(batch.number)
        if reading is not None and (reading.position, reading.line) == (batch.position, batch.line):
            return reading
        self.forget(batch.number)
        stream = text_of(self._files.open(batch.input_file))
        to_skip = batch.position
        if stream.seekable():
            to_skip -= stream.seek(batch.position)
        lines = read_on(stream, LONGEST_LINE, batch.position, batch.line)
        reading = _Reading(stream, batch.position, batch.line, lines, to_skip=to_skip)
        self._open[batch.number] = reading
        return reading

    def _chunk(self, batch: Row[Any], reading: _Reading, room: int, now: int) -> Chunk:
        """Return so many lines from where the input stands, with their jobs."""
        goes_on = batch.state != CANCELLING and batch.reason is None
        sends = goes_on and batch.expires_at > now and not batch.exhausted
        admit, terms = self._admit(), terms_of(batch)
        found: list[NewLine] = []
        position, line, size, read_all = batch.position, batch.line, 0, True
        try:
            for read in reading:
                position, line, size = read.end, read.number, size + len(read.text) + _A_LINE
                if not read.is_empty:
                    found.append(admitted(read, terms, admit) if sends else passed_over(read))
                if len(found) >= room or size >= _BYTES_AT_ONCE:
                    read_all = False
                    break
        except NotReadable:
            if not found:
                raise
            # The lines before that place are taken first. Then the input is opened again, and ends here.
            self.forget(batch.number)
            read_all = False
        return Chunk(found, position, line, read=read_all, own_keys=terms.own_keys)


def _unread(batch: Row[Any], room: int) -> Chunk:
    """Return the next lines of an input that cannot be read on. All that is known of them is how many they are."""
    left = max(0, batch.total - batch.taken)
    first = batch.line + 1
    lines = [NewLine(number, UNREADABLE) for number in range(first, first + min(room, left))]
    return Chunk(lines, UNREADABLE, batch.line + len(lines), read=len(lines) == left)
