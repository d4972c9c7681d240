"""Batches: their lines are fed, their answers written, and they come to their ends. One bridge at a time does it."""

import logging
import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from sqlalchemy import Row

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.ports import Clock
from headrace_workers.core.progress import Awaited
from headrace_workers.core.text_file import NotReadable
from headrace_workers.features.batches.feed import Feed
from headrace_workers.features.batches.outputs import Outputs
from headrace_workers.features.batches.rewriting import Rewriting
from headrace_workers.features.batches.settings import BatchSettings
from headrace_workers.features.batches.store.batches import CANCELLING, IN_PROGRESS
from headrace_workers.features.batches.store.bulk import Batches
from headrace_workers.features.files.file_service import Files, files_in
from headrace_workers.features.files.object_store import NoSuchObject, StoreUnavailable
from headrace_workers.runtime.bridge.crashes import Crashes
from headrace_workers.runtime.bridge.duty import BridgeParts, DutyLease, Turn
from headrace_workers.runtime.bridge.incident_reporter import IncidentReporter
from headrace_workers.runtime.bridge.ledger_time import LedgerTime
from headrace_workers.runtime.bridge.record_admission import RecordAdmission
from headrace_workers.runtime.wire.listener import HintReceiver, Several
from headrace_workers.runtime.wire.notifier import Hint

DUTY = "batches"
_DUTY_LEASE = 10.0  # seconds: so long nothing is fed or written when the bridge that does it was killed
_IDLE = 1.0  # seconds to the next look while no batch is open
_REST = 0.5  # while one is, and nobody rings: an answer is readable as soon
_GATHER = 0.05  # so long ends wait for others in any case: all are written at once
_GATHER_A_LINE = 0.001  # and so long for each line that is under way, `_REST` at most: of many more will end soon
_LET_GO_AT_ONCE = 500  # jobs that are cancelled in one transaction
_FORGET_EVERY = 60.0
_FORGOTTEN_AT_ONCE = 20  # transactions


@dataclass
class Room:
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


class Bulk:
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
        room: Room,
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
            Hint.BATCHES: Several(self._made, self._moved),
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
        self.is_open, self.gathers, self.rest = False, 0.0, _IDLE
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
        f"the bridge ended {count} times while it read on after line {line:,} (HEADRACE_MAX_CRASHES): its log says "
        "where; the lines after that one are in the error file, and `headrace batch retry-failed` runs them again"
    )


def _gathered(unfinished: Sequence[Row[Any]]) -> float:
    under_way = sum(int(batch.taken - batch.completed - batch.failed) for batch in unfinished)
    return min(_REST, max(_GATHER, under_way * _GATHER_A_LINE))


def duty_of(bridge: BridgeParts) -> Bulk:
    """Return the duty for a bridge. Raise ConfigurationError if HEADRACE_FILES names no place that can be reached."""
    settings, ledger = bridge.settings, bridge.ledger
    files, batches = files_in(settings, ledger), ledger.of(Batches)
    return Bulk(
        ledger=ledger,
        files=files,
        feed=Feed(batches=batches, files=files, admit=lambda: RecordAdmission(bridge.rules, ledger.now()).admit),
        outputs=Outputs(batches=batches, files=files, keep=settings.of(BatchSettings).files_retention),
        rewriting=Rewriting(batches=batches, files=files),
        room=Room(max(1, settings.max_active // 2), settings.of(BatchSettings).batch_window),
        bridge=bridge.name,
        clock=bridge.clock,
        incidents=bridge.incidents,
        keep=settings.of(BatchSettings).files_retention,
        max_crashes=settings.max_crashes,
    )
