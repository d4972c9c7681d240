"""Runs of evals, advanced by one bridge at a time: their rows become a batch, and its answers what graders say."""

import io
import json
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from sqlalchemy import Row as LedgerRow

from headrace_schemas.errors import Category, HeadraceError
from headrace_workers.core.clock import Clock
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.json_lines import NoJSON, parsed, read_on
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.progress import Awaited
from headrace_workers.core.text_file import MOST_LINES, NotReadable, TooManyLines, text_of
from headrace_workers.features.batches.new_batch import BatchOptions, submit
from headrace_workers.features.batches.settings import BatchSettings
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.evals.eval_plan import EvalPlan, Row, error_of, item_text
from headrace_workers.features.evals.run_state import CANCELED, CANCELING, COMPLETED, ERROR, FAILED, Tally, status_of
from headrace_workers.features.evals.store import Evals, Judged, NewItem, ReadBefore, TooManyEvals
from headrace_workers.features.quality.duty import LiveRates
from headrace_workers.files.object_store import NoSuchObject, StoreUnavailable
from headrace_workers.files.service import Files, Piecewise, files_in
from headrace_workers.files.store.stored import StoredFiles
from headrace_workers.http.openai import Refused
from headrace_workers.runtime.bridge.duty import BridgeParts, Crashes, DutyLease, IncidentReporter, Turn
from headrace_workers.runtime.wire.hints import Hint, HintReceiver

PURPOSE: Final = "eval_run"  # of the file that a run's jobs stand in
MAX_ROWS: Final = 500_000
_ROWS_AT_ONCE = 1_000  # of a run in one turn
_ITEMS_AT_ONCE = 200  # of these in one transaction
_ROW_BYTES_AT_ONCE = 4 * 1024**2  # of either, beside the one that goes beyond it
_A_LINE = 16  # bytes that a line counts for beside its own: to read millions of empty ones takes its time, too
_LONGEST_ROW = 4 * 1024**2  # bytes


class TooManyRows(HeadraceError):
    """A file has more rows than a run may have."""

    category = Category.INVALID


class Beginning:
    """The start of a run, a `turn` at a time; it may be repeated. Raises NotReadable, NoSuchObject and StoreUnavailable
    about its files; TooManyRows, TooManyEvals.
    """

    def __init__(self, *, ledger: Ledger, files: Files, run: LedgerRow[Any], plan: EvalPlan, keep: float) -> None:
        self.plan = plan
        self.count = 0  # rows until now
        self.tenant: str = run.tenant
        self._ledger = ledger
        self._run = run
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
        self._ledger.of(Evals).check_bytes(self.tenant)
        until, size = self.count + _ROWS_AT_ONCE, 0
        for read in self._rows:
            if read.number > MOST_LINES:
                raise TooManyLines
            size += read.end - self._read + _A_LINE
            self._read = read.end
            if not read.is_empty:
                self._take(read.text, read.number, read.too_long)
            if len(self._found) >= _ITEMS_AT_ONCE or self._size >= _ROW_BYTES_AT_ONCE:
                self._write(goes_on)
            if self.count >= until or size >= _ROW_BYTES_AT_ONCE:
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
            self._bytes += sum(len(item.item) + len(item.sample or "") for item in self._found)
            self._ledger.of(Evals).put_items(self._run.number, self._found, self._bytes)
            self._found, self._size = [], 0
        goes_on()


DUTY: Final = "evals"
_DUTY_LEASE = 10.0  # seconds
_IDLE = 1.0  # seconds to the next look
_REST = 0.5  # while a run is open
_BEGUN_AT_ONCE = 32  # runs whose rows are being written down: each has a file open
_BEGUN_OF_A_TENANT = 2  # of these: a small one does not wait for a large one
_LINES_AT_ONCE = 500
_BYTES_AT_ONCE = 4 * 1024**2  # of these, beside the one that goes beyond it
_LONGEST_ANSWER = 64 * 1024**2
_FORGET_EVERY = 60.0
_FORGOTTEN_AT_ONCE = 10  # transactions
_LOST: Final = error_of("lost", "nothing came of it")
_FAULTS: Final = (ArithmeticError, AttributeError, LookupError, RecursionError, TypeError, ValueError)


class EvalRuns:
    """The runs of a ledger. Belongs to the thread that calls `once`. `keep` is in seconds."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        files: Files,
        bridge: str,
        clock: Clock,
        incidents: IncidentReporter,
        keep: float,
        max_crashes: int = 3,
    ) -> None:
        self._ledger = ledger
        self._files = files
        self._clock = clock
        self._incidents = incidents
        self._keep = keep
        self._begun: dict[int, Beginning] = {}
        self._rates = LiveRates(ledger=ledger, bridge=bridge, clock=clock)
        self._crashes = Crashes(ledger.of(Evals).add_crashes, max_crashes)
        self._duty = DutyLease(DUTY, ledger=ledger, bridge=bridge, clock=clock, seconds=_DUTY_LEASE)
        self._forgets_at = float("-inf")
        self.rest = _IDLE
        self.waits: Awaited | None = None
        self.receivers: dict[Hint, HintReceiver] = {}

    def take_turn(self, turn: Turn) -> Awaited | None:
        """Go on with each run, compute pass rates where they are due, and rest."""
        self.once(turn.tell_all, turn.alive)
        self._rates.once(turn.alive)
        turn.rest(self.rest)
        return self.waits

    def once(self, ring: Callable[[Hint], object], alive: Callable[[], object] = lambda: None) -> int:
        """Advance each run by a bounded amount; return the items that were written or have ended. Raise Unavailable."""
        runs = self._ledger.of(Evals).unfinished()
        forgets = self._clock.monotonic() >= self._forgets_at
        has_duty = bool(runs or forgets) and self._duty.held()
        self._leave_all_but({run.number for run in runs} if has_duty else set())
        if not has_duty:
            self.rest = _IDLE
            self._say({})
            return 0
        troubles: dict[str, str] = {}
        done = 0
        for run in runs:
            alive()
            try:
                done += self._go_on(run, ring, alive)
            except (StoreUnavailable, NoSuchObject) as error:
                troubles[run.id] = str(error)
            except ReadBefore as error:
                log(DUTY, logging.DEBUG, Action.LEASE_LOST, str(error), run=run.id)
            except _FAULTS as error:  # of ours, which this run would meet again: the others go on
                self._give_up(run, error, ring)
        self._say(troubles)
        if forgets:
            self._forget()
        self.rest = 0.0 if done or self._begun else _REST if runs else _IDLE
        return done

    def close(self) -> None:
        """Close what is open. Another bridge begins again where this one had begun."""
        self._leave_all_but(set())
        self._crashes.close()

    def _go_on(self, run: LedgerRow[Any], ring: Callable[[Hint], object], alive: Callable[[], object]) -> int:
        if run.batch is None:
            crashes = self._crashes.too_many(run)
            if run.state == CANCELING or crashes:
                self._leave(run.number)
                cancelled = run.state == CANCELING
                state, why = (CANCELED, None) if cancelled else (FAILED, _crashed(crashes))
                self._finish(run, state, why, ring)
                return 0
            with self._crashes.counted(run.number):
                return self._begin(run, ring, alive)
        if (plan := self._plan(run, ring)) is None:
            return 0
        batch = self._ledger.of(Batches).batch(run.batch, run.tenant)
        if batch is None:
            self._finish(run, FAILED, "its batch is not known any more", ring)
            return 0
        if run.state == CANCELING and batch.cancelling_at is None and batch.ended_at is None:
            self._ledger.of(Batches).cancel(batch.id, batch.tenant)
            ring(Hint.BATCHES)
        try:
            ended = self._collect(run, plan, batch)
        except NoSuchObject:
            if batch.ended_at is None:
                raise  # the batch writes its files anew, or waits for them
            if run.state == CANCELING:
                self._finish(run, CANCELED, None, ring)
            elif batch.expires_at < self._ledger.now():
                self._finish(run, FAILED, f"what its batch, {batch.id}, wrote was removed from the file store", ring)
            else:
                raise  # a folder that is not mounted may come back
            return 0
        if not ended and batch.ended_at is not None:
            self._end(run, batch, ring)
        return ended

    def _plan(self, run: LedgerRow[Any], ring: Callable[[Hint], object]) -> EvalPlan | None:
        try:
            return EvalPlan.of(json.loads(run.testing_criteria), *_source(run))
        except Refused as error:  # a version that takes other graders
            self._finish(run, FAILED, f"its graders or its data source are not taken any more: {error}", ring)
            return None

    def _give_up(self, run: LedgerRow[Any], error: Exception, ring: Callable[[Hint], object]) -> None:
        log(DUTY, logging.ERROR, Action.STEP_FAILED, f"a run cannot go on: {type(error).__name__}", run=run.id)
        if run.batch is not None:
            self._ledger.of(Batches).cancel(run.batch, run.tenant)
        self._finish(run, FAILED, f"headrace failed at it: {type(error).__name__}", ring)

    def _forget(self) -> None:
        if not all(self._ledger.of(Evals).forget() for _ in range(_FORGOTTEN_AT_ONCE)):
            self._forgets_at = self._clock.monotonic() + _FORGET_EVERY

    # -- the beginning

    def _begin(self, run: LedgerRow[Any], ring: Callable[[Hint], object], alive: Callable[[], object]) -> int:
        """Write down more of the run's items; once all are, a batch carries their jobs."""
        beginning = self._begun.get(run.number) or self._opened(run, ring)
        if beginning is None:
            return 0

        def goes_on() -> None:
            alive()
            if not self._duty.held():
                raise ReadBefore(f"another bridge begins {run.id}")

        before = beginning.count
        try:
            if not beginning.turn(goes_on):
                self._carry(run, beginning, ring)
                self._leave(run.number)
        except (NotReadable, TooManyRows, TooManyEvals) as error:
            self._leave(run.number)
            why = str(error) if isinstance(error, TooManyEvals) else f"its data cannot be read: {error}"
            self._finish(run, FAILED, why, ring)
            return 0
        except BaseException:
            self._leave(run.number)
            raise
        return beginning.count - before

    def _opened(self, run: LedgerRow[Any], ring: Callable[[Hint], object]) -> Beginning | None:
        """Return the run's beginning; None if it ended at once, or other runs must begin before."""
        if len(self._begun) >= _BEGUN_AT_ONCE:
            return None
        if sum(item.tenant == run.tenant for item in self._begun.values()) >= _BEGUN_OF_A_TENANT:
            return None
        source = json.loads(run.data_source)["source"]["id"]
        if self._ledger.of(StoredFiles).file(source, run.tenant) is None:
            self._finish(run, FAILED, f"its file {source} was deleted before it was read", ring)
            return None
        if (plan := self._plan(run, ring)) is None:
            return None
        beginning = Beginning(ledger=self._ledger, files=self._files, run=run, plan=plan, keep=self._keep)
        self._begun[run.number] = beginning
        return beginning

    def _leave_all_but(self, numbers: set[int]) -> None:
        """Leave the other runs: another bridge continues or has ended them."""
        for number in self._begun.keys() - numbers:
            self._leave(number)

    def _leave(self, number: int) -> None:
        """Close a beginning: it has ended, or must begin again."""
        if (beginning := self._begun.pop(number, None)) is not None:
            beginning.close()

    def _carry(self, run: LedgerRow[Any], beginning: Beginning, ring: Callable[[Hint], object]) -> None:
        """Let a batch carry the items that make jobs, since all items are written down."""
        batch_id = None
        wishes = BatchOptions(
            tenant=run.tenant,
            defaults=Defaults("", {"tenant": run.tenant}),
            metadata={"eval_run": run.id},
            name=run.id,
        )
        file = beginning.file()
        if file is not None:
            batch, is_new = submit(self._ledger, file, wishes, wishes.key(run.id))
            batch_id = batch.id
            if not is_new:
                self._files.remove(file.id)
        graders = [grader.name for grader in beginning.plan.graders]
        tally = Tally.empty(graders, self._ledger.of(Evals).count(run.number, ERROR))
        self._ledger.of(Evals).begin(run.number, batch_id, beginning.count, tally.to_json())
        if batch_id is None:
            self._finish(run, FAILED, f"none of its {beginning.count:,} rows makes a job", ring)
        ring(Hint.BATCHES)
        log(DUTY, logging.INFO, Action.TAKEN, "a run of an eval begins", run=run.id, items=beginning.count)

    # -- the answers

    def _collect(self, run: LedgerRow[Any], plan: EvalPlan, batch: LedgerRow[Any]) -> int:
        """Read on in the output of the batch, and write down the graders' results."""
        places = {"output_read": batch.output_file, "errors_read": batch.error_file}
        read = {name: getattr(run, name) for name in places}
        lines: dict[int, dict[str, Any]] = {}
        for name, file_id in places.items():
            if file_id is not None and len(lines) < _LINES_AT_ONCE:
                read[name] = self._read(file_id, read[name], lines)
        if not lines:
            return 0
        tally = Tally.from_json(json.loads(run.tally), [grader.name for grader in plan.graders])
        ends: list[Judged] = []
        for number, item in self._ledger.of(Evals).open_items(run.number, list(lines)).items():
            status, sample, results = _judged(plan, Row.of(json.loads(item)), lines[number])
            tally = tally.with_end(status, results, sample)
            ends.append(Judged(number, status, json.dumps(sample), json.dumps(results)))
        self._ledger.of(Evals).put_ends(run, ends, read, tally.to_json())
        return len(lines)

    def _read(self, file_id: str, start: int, lines: dict[int, dict[str, Any]]) -> int:
        """Return the lines of a file from a place on, by the numbers of their items, and where the next line begins."""
        position = start
        with io.BufferedReader(self._files.open(file_id, start)) as stream:
            for line in read_on(stream, _LONGEST_ANSWER, start):
                position = line.end
                line_read = json.loads(line.text)
                lines[int(line_read["custom_id"])] = line_read
                if len(lines) >= _LINES_AT_ONCE or position - start >= _BYTES_AT_ONCE:
                    break
        return position

    # -- the end

    def _end(self, run: LedgerRow[Any], batch: LedgerRow[Any], ring: Callable[[Hint], object]) -> None:
        if batch.cancelling_at is not None:
            self._finish(run, CANCELED, None, ring)
        elif batch.completed:
            self._finish(run, COMPLETED, None, ring)
        else:
            self._finish(run, FAILED, batch.reason or "no item has an answer: see its items", ring)

    def _finish(self, run: LedgerRow[Any], state: str, reason: str | None, ring: Callable[[Hint], object]) -> None:
        error = error_of("canceled", "its run was cancelled") if state == CANCELED else _LOST
        if self._ledger.of(Evals).finish(run.number, state, reason, {"error": error}) is not None:
            ring(Hint.WORK)  # webhooks may follow
            log(DUTY, logging.INFO, Action.BATCH_ENDED, f"a run of an eval is over: {state}", run=run.id)

    def _say(self, troubles: dict[str, str]) -> None:
        self._incidents.tell(DUTY, troubles)
        self.waits = Awaited("the file store", "; ".join(sorted(set(troubles.values())))[:1_000]) if troubles else None


def _crashed(count: int) -> str:
    return (
        f"the bridge ended {count} times while it read the rows of this run: its log says "
        "where; start the run again with other rows, or when that is mended"
    )


def _source(run: LedgerRow[Any]) -> tuple[Any, Any]:
    """Return the data source as it was sent, and the schema of its rows, which is stored with it."""
    kept = json.loads(run.data_source)
    return {name: value for name, value in kept.items() if name != "item_schema"}, kept.get("item_schema") or {}


def _judged(plan: EvalPlan, row: Row, line: dict[str, Any]) -> tuple[str, dict[str, Any], list[dict[str, Any]]]:
    """Return the status, sample and results of an item, from a line that its batch wrote."""
    if (error := line.get("error")) is not None:
        return ERROR, plan.sample(row, None, error_of(str(error["code"]), str(error["message"]))), []
    scores = (line.get("judge") or {}).get("scores") or []
    if len(scores) != plan.criteria_count:
        return ERROR, plan.sample(row, None, error_of("lost", "its scores do not match its graders")), []
    results = plan.results(scores)
    answer = line.get("answer")
    error = None
    if line.get("status") == "blocked":
        error = error_of("content_filter", "moderation withheld the answer")
    return status_of(results), plan.sample(row, answer, error), results


def duty_of(bridge: BridgeParts) -> EvalRuns:
    """Return the duty for a bridge. Raise ConfigurationError if HEADRACE_FILES names no place that can be reached."""
    settings, ledger = bridge.settings, bridge.ledger
    return EvalRuns(
        ledger=ledger,
        files=files_in(settings.home, settings, ledger),
        bridge=bridge.name,
        clock=bridge.clock,
        incidents=bridge.incidents,
        keep=settings.of(BatchSettings).files_retention,
        max_crashes=settings.max_crashes,
    )
