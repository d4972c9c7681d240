"""Batches: their lines are fed, their answers written, and they come to their ends. One bridge at a time does it."""

import logging
import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, BinaryIO

from sqlalchemy import Row

from headrace_workers.core.clock import Clock
from headrace_workers.core.json_lines import Read, read_on
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.progress import Awaited
from headrace_workers.core.text_file import NotReadable, text_of
from headrace_workers.features.batches.lines import LONGEST_LINE, Admit, admitted, passed_over, terms_of
from headrace_workers.features.batches.output_lines import Outputs, Rewriting
from headrace_workers.features.batches.settings import BatchSettings
from headrace_workers.features.batches.store.batches import CANCELLING, IN_PROGRESS, UNREADABLE
from headrace_workers.features.batches.store.feeding import Chunk, NewLine
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.files.object_store import NoSuchObject, StoreUnavailable
from headrace_workers.files.service import Files, files_in
from headrace_workers.runtime.bridge.duty import BridgeParts, Crashes, DutyLease, IncidentReporter, LedgerTime, Turn
from headrace_workers.runtime.bridge.record_admission import RecordAdmission
from headrace_workers.runtime.wire.hints import Broadcast, Hint, HintReceiver

_LINES_AT_ONCE = 500  # of one batch in one transaction
_SECONDS_AT_ONCE = 1.0  # for these lines: others' batches go on meanwhile, and nobody takes the bridge for stuck
_BYTES_AT_ONCE = 4 * 1024**2
_A_LINE = 16  # bytes that a line counts for beside its own: to read millions of empty ones takes its time, too
_SKIP = 1024**2  # bytes
# Of what is compressed, read over at once: others' batches go on meanwhile, and nobody takes the bridge for stuck.
SKIPPED_AT_ONCE = 256 * 1024**2


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
        last = max(0, self.to_skip - SKIPPED_AT_ONCE)
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

    def __init__(self, *, batches: Batches, files: Files, admit: Callable[[], Admit], clock: Clock) -> None:
        self._clock = clock
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
        admit, terms, began = self._admit(), terms_of(batch), self._clock.monotonic()
        lines: list[NewLine] = []
        position, line, size, read_all = batch.position, batch.line, 0, True
        try:
            for read in reading:
                position, line, size = read.end, read.number, size + len(read.text) + _A_LINE
                if not read.is_empty:
                    lines.append(admitted(read, terms, admit) if sends else passed_over(read))
                is_late = self._clock.monotonic() - began >= _SECONDS_AT_ONCE
                if len(lines) >= room or size >= _BYTES_AT_ONCE or is_late:
                    read_all = False
                    break
        except NotReadable:
            if not lines:
                raise
            # The lines before that place are taken first. Then the input is opened again, and ends here.
            self.forget(batch.number)
            read_all = False
        return Chunk(lines, position, line, read=read_all, own_keys=terms.own_keys)


def _unread(batch: Row[Any], room: int) -> Chunk:
    """Return the next lines of an input that cannot be read on. All that is known of them is how many they are."""
    left = max(0, batch.total - batch.taken)
    first = batch.line + 1
    lines = [NewLine(number, UNREADABLE) for number in range(first, first + min(room, left))]
    return Chunk(lines, UNREADABLE, batch.line + len(lines), read=len(lines) == left)


DUTY = "batches"
_DUTY_LEASE = 10.0  # seconds: so long nothing is fed or written when the bridge that does it was killed
IDLE = 1.0  # seconds to the next look while no batch is open
_REST = 0.5  # while one is, and nobody rings: an answer is readable as soon
_GATHER = 0.05  # so long ends wait for others in any case: all are written at once
_GATHER_A_LINE = 0.001  # and so long for each line that is under way, `_REST` at most: of many more will end soon
_LET_GO_AT_ONCE = 500  # jobs that are cancelled in one transaction
_FORGET_EVERY = 60.0
_FORGOTTEN_AT_ONCE = 20  # transactions


@dataclass
class LineQuota:
    """The number of lines that may be unfinished: `most` of all batches, and of each `window`, or its share of all if
    less.

    Other batches get the room that a batch does not use.
    """

    most: int
    window: int

    def among(self, unfinished: list[Row[Any]]) -> "dict[int, int]":
        """Return for each of these batches how many more lines may be submitted."""
        under_way = {batch.number: int(batch.taken - batch.completed - batch.failed) for batch in unfinished}
        left = self.most - sum(under_way.values())
        each = min(self.window, max(1, self.most // max(1, len(unfinished))))
        found: dict[int, int] = {}
        for batch in unfinished:
            unread = max(0, batch.total - batch.taken) + 1  # its end is found by reading on
            found[batch.number] = max(0, min(left, each - under_way[batch.number], unread))
            left -= found[batch.number]
        return found


class BatchDuty:
    """The batches of a ledger. Belongs to the thread that calls `once`.

    `keep`: seconds that a batch is remembered after its end. A batch whose input ended a bridge `max_crashes` times at
    the same line is run no further.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        files: Files,
        feed: Feed,
        outputs: Outputs,
        rewriting: Rewriting,
        room: LineQuota,
        bridge: str,
        clock: Clock,
        incidents: IncidentReporter,
        keep: float,
        max_crashes: int = 3,
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._feed = feed
        self._outputs = outputs
        self._rewriting = rewriting
        self._room = room
        self._clock = clock
        self._incidents = incidents
        self._keep_ms = int(keep * 1000)
        self._ledger_time = LedgerTime(ledger, clock)
        self._duty = DutyLease(DUTY, ledger=ledger, bridge=bridge, clock=clock, seconds=_DUTY_LEASE)
        self._crashes = Crashes(ledger.of(Batches).add_crashes, max_crashes)
        self._fed: set[int] = (
            set()
        )  # batches of which something was taken in here: what ends a bridge ends the next one
        self._forgot_at = clock.monotonic()
        self.waits: Awaited | None = None  # what keeps it from going on
        self.is_open = False  # whether a batch is, of which this bridge has the duty
        self.gathers = 0.0  # seconds to the next look in any case,
        self.rest = 0.0  # and from then on if nothing ends
        self._made = threading.Event()  # a batch was made, or is to end
        self._moved = threading.Event()  # that, or a job has ended
        self.receivers: dict[Hint, HintReceiver] = {
            Hint.BATCHES: Broadcast(self._made, self._moved),
            Hint.EVENTS: self._moved,
        }

    def take_turn(self, turn: Turn) -> Awaited | None:
        """Go on with each batch, and rest: while one is open, until a job ends."""
        self._made.clear()
        self._moved.clear()
        self.once(turn.tell, turn.alive)
        turn.rest(self.gathers)
        (self._moved if self.is_open else self._made).wait(self.rest)
        return self.waits

    def once(self, tell: Callable[[Hint], object], alive: Callable[[], object] = lambda: None) -> int:
        """Go on with each batch by a bounded amount; return the lines that were read or written. Raise Unavailable.

        `tell` is called with what came of it, and `alive` for each batch, and while a file is written anew, which may
        take minutes.
        """
        self.is_open, self.gathers, self.rest = False, 0.0, IDLE
        unfinished = self._ledger.of(Batches).unfinished()
        forgets = self._clock.monotonic() - self._forgot_at > _FORGET_EVERY
        if not (unfinished or forgets) or not self._duty.held():
            self._feed.close()
            self._say({})
            return 0
        troubles: dict[str, str] = {}
        self._fed &= {batch.number for batch in unfinished}
        room = self._room.among(unfinished)
        lines = 0
        for batch in unfinished:
            alive()
            try:
                lines += self._go_on(batch, room[batch.number], tell, alive)
            except (StoreUnavailable, NoSuchObject) as error:
                self._feed.forget(batch.number)
                troubles[batch.id] = str(error)
        if forgets:
            try:
                self._forget()
            except StoreUnavailable as error:
                troubles["of files whose time is over"] = str(error)
        self._say(troubles)
        if unfinished:
            self.is_open = True
            self.gathers = 0.0 if lines else _gathered(unfinished)
            self.rest = 0.0 if lines else _REST - self.gathers
        return lines

    def close(self) -> None:
        """Close what is open."""
        self._feed.close()
        self._crashes.close()

    def _go_on(self, batch: Row[Any], room: int, tell: Callable[[Hint], object], alive: Callable[[], object]) -> int:
        now = self._ledger_time.ms()
        if batch.state == CANCELLING:  # first: a store that is away keeps no model at work
            self._cancel_open_jobs(batch, tell)
        written = taken = 0
        try:
            written = self._outputs.collect(batch, now)
            if not batch.read:
                taken = self._take_in(batch, room, now, tell)
            # Its end does not wait for another turn, which is a turn of every other batch, too.
            if written or taken:
                batch = self._ledger.of(Batches).batch(batch.id) or batch
            if batch.read:
                self._end(batch, tell)
        except NoSuchObject:  # of what was written; of its input `_take_in` sees to it
            return self._rewriting.mend(batch, now, alive)
        return written + taken

    def _take_in(self, batch: Row[Any], room: int, now: int, tell: Callable[[Hint], object]) -> int:
        if room <= 0:
            return 0
        if crashes := self._crashes.too_many(batch):
            # Other lines are only read, to name them in the error file. If that ends bridges, too, they are numbered.
            reason, reads_on = _crashed(crashes, int(batch.line)), batch.reason is None
            self._ledger.of(Batches).give_up(batch.number, reason, reads_on=reads_on)
            log(DUTY, logging.ERROR, Action.UNREADABLE, "the input of a batch ended the bridge", batch=batch.id)
            return 0
        try:
            # Only until something of it was taken in: a bridge that is started again begins with what ended the last.
            if batch.number in self._fed:
                lines, _ = self._feed.feed(batch, room, now)
            else:
                self._files.reach(batch.input_file)  # a bridge that is ended while it waits for the store is no crash
                lines, _ = self._feed.feed(batch, room, now, lambda: self._crashes.counted(batch.number))
        except (NotReadable, NoSuchObject) as error:
            reason = str(error) if isinstance(error, NotReadable) else "its input was deleted before it was read"
            self._feed.forget(batch.number)
            self._ledger.of(Batches).give_up(batch.number, reason, reads_on=False)
            log(DUTY, logging.WARNING, Action.UNREADABLE, "the input of a batch cannot be read on", batch=batch.id)
            return 0
        if lines:
            self._fed.add(batch.number)
            tell(Hint.WORK)
        return lines

    def _cancel_open_jobs(self, batch: Row[Any], tell: Callable[[Hint], object]) -> None:
        reason = f"its batch, {batch.id}, was cancelled"
        if self._ledger.of(Batches).let_go(batch.number, batch.tenant, reason, _LET_GO_AT_ONCE):
            for hint in (Hint.WORK, Hint.EVENTS, Hint.ENDS):
                tell(hint)

    def _end(self, batch: Row[Any], tell: Callable[[Hint], object]) -> None:
        """End batches that have nothing more to read and to write."""
        if batch.taken == batch.completed + batch.failed:
            ended = self._ledger.of(Batches).finish(batch.number, self._outputs.digests(batch))
            if ended is not None:
                tell(Hint.WORK)  # webhooks may follow
                log(DUTY, logging.INFO, Action.BATCH_ENDED, f"a batch is over: {ended.state}", batch=ended.id,
                    completed=ended.completed, failed=ended.failed)  # fmt: skip
        elif batch.state == IN_PROGRESS and self._ledger.of(Batches).is_all_ended(batch.number):
            self._ledger.of(Batches).finalize(batch.number)

    def _forget(self) -> None:
        for _ in range(_FORGOTTEN_AT_ONCE):
            if not self._ledger.of(Batches).forget(self._keep_ms):
                break
        self._files.expire()
        self._forgot_at = self._clock.monotonic()

    def _say(self, troubles: dict[str, str]) -> None:
        self._incidents.tell(DUTY, troubles)
        self.waits = Awaited("the file store", "; ".join(sorted(set(troubles.values())))[:1_000]) if troubles else None


def _crashed(count: int, line: int) -> str:
    return (
        f"the bridge ended {count} times while it read on after line {line:,}: its log says "
        "where; the lines after that one are in the error file, and `headrace batch retry-failed` runs them again"
    )


def _gathered(unfinished: Sequence[Row[Any]]) -> float:
    under_way = sum(int(batch.taken - batch.completed - batch.failed) for batch in unfinished)
    return min(_REST, max(_GATHER, under_way * _GATHER_A_LINE))


def duty_of(bridge: BridgeParts) -> BatchDuty:
    """Return the duty for a bridge. Raise ConfigurationError if HEADRACE_FILES names no place that can be reached."""
    settings, ledger = bridge.settings, bridge.ledger
    files, batches = files_in(settings.home, settings, ledger), ledger.of(Batches)
    return BatchDuty(
        ledger=ledger,
        files=files,
        feed=Feed(
            batches=batches,
            files=files,
            admit=lambda: RecordAdmission(bridge.rules, ledger.now()).admit,
            clock=bridge.clock,
        ),
        outputs=Outputs(batches=batches, files=files, keep=settings.of(BatchSettings).files_retention),
        rewriting=Rewriting(batches=batches, files=files),
        room=LineQuota(max(1, settings.max_active // 2), settings.of(BatchSettings).batch_window),
        bridge=bridge.name,
        clock=bridge.clock,
        incidents=bridge.incidents,
        keep=settings.of(BatchSettings).files_retention,
        max_crashes=settings.max_crashes,
    )
