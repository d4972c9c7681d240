"""Logs: one line an action, for people on a terminal and as JSON for machines. Never users' texts, never secrets.

`action` is one of this closed set, so that logs can be searched and counted.
"""

import json
import logging
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from enum import StrEnum
from typing import Any, Final

# Characters that move a terminal's cursor, end a line or turn the order of a text: C0, DEL, C1, line separators and
# the controls of bidirectional text.
_CONTROL: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")
_STACK: Final = "stack"  # the field whose lines are our own


class Action(StrEnum):
    """Action that a log line reports."""

    STARTED = "started"
    STOPPED = "stopped"
    TAKEN = "taken"  # jobs were taken in
    REFUSED = "refused"  # records were refused at the door
    PAUSED = "paused"  # ingest waits: the ledger holds too much
    RESUMED = "resumed"
    UNAVAILABLE = "unavailable"  # something did not answer; it is tried again
    AVAILABLE = "available"  # it answers again
    STUCK = "stuck"  # a loop did not go on: its process ends itself
    HUNG = "hung"  # a run outlasted its bound: its process ends itself
    REAPED = "reaped"  # leases ran out
    LEASES_PUT_OFF = "leases_put_off"  # the ledger was away or its clock jumped: nobody was silent meanwhile
    FOREIGN = "foreign"  # a claim of another ledger was refused
    LEASE_LOST = "lease_lost"  # a worker finished what was no longer its own
    STEP_FAILED = "step_failed"  # a step raised something that it should not
    MODEL_LOADED = "model_loaded"
    WORDS_ONLY = "words_only"  # passages have no vectors that can be compared, and are found by their words
    NOT_RERANKED = "not_reranked"  # passages stay in the order of the search
    BASE_LOADED = "base_loaded"  # a knowledge base was read into memory
    BASE_NOT_READ = "base_not_read"  # nor could it be, before anybody asked for it
    BASE_LET_GO = "base_let_go"  # and is there no more, since nobody asked for it
    ENTRY_LEFT_OUT = "entry_left_out"  # an answer that may be given again has a vector that cannot be one of ours
    SNAPSHOT_DROPPED = "snapshot_dropped"  # what a recall worker kept on disk is not used
    NOT_SAVED = "not_saved"  # nor could it be written
    PASSED_OVER = "passed_over"  # jobs went on without a stage that no worker does
    SCOPE_OFF = "scope_off"  # too many answers of it were wrong: none is given by likeness any more
    NO_EMBEDDER = "no_embedder"  # answers are not looked up by likeness
    MODEL_LEFT_OUT = "model_left_out"  # its card cannot be used
    MODEL_DOWN = "model_down"  # its breaker is open: it failed again and again
    MODEL_UP = "model_up"  # its breaker closed
    DETECTOR_FAILED = "detector_failed"
    DETECTOR_HANGS = "detector_hangs"  # what it was to look at is held
    POLICY_CHANGED = "policy_changed"  # outputs are moderated by another from here on
    POLICY_REFUSED = "policy_refused"  # its file is wrong: the one of before holds
    RULES_CHANGED = "rules_changed"  # answers are drawn for review by others from here on
    RULES_REFUSED = "rules_refused"  # their file is wrong: those of before hold
    CHILD_DIED = "child_died"  # a process of the embedded stack
    GIVEN_BACK = "given_back"  # work was handed back at a stop
    UNREACHED = "unreached"  # why no connection to a receiver of webhooks was made: its tenant does not see that
    ENDPOINT_DISABLED = "endpoint_disabled"  # a receiver of webhooks wants nothing more, or took nothing for days
    UNSENT = "unsent"  # webhooks wait until a person has mended something
    POISON = "poison"
    BATCH_ENDED = "batch_ended"
    FILE_MENDED = "file_mended"  # objects of a batch's file were gone from the store
    SET_ASIDE = "set_aside"  # an event that Kafka will not take
    REQUEST = "request"  # over HTTP
    REQUEST_FAILED = "request_failed"  # one met an error of our own
    POSITIONS_MOVED = "positions_moved"  # the ledger was restored, or another bridge reads what this one did
    LOG_DIFFERS = "log_differs"  # a partition's log is not the one that was read
    UNREADABLE = "unreadable"  # a partition, or part of one, cannot be read


class _Lines(logging.Formatter):
    def __init__(self, as_json: bool) -> None:
        super().__init__()
        self._as_json = as_json
        self._second = 0, ""

    def _time(self, created: float) -> str:
        """Return the second of a line, made once for all of it."""
        second, text = self._second
        if second != int(created):
            second, text = self._second = int(created), time.strftime("%Y-%m-%dT%H:%M:%S", self.converter(created))
        return text

    def format(self, record: logging.LogRecord) -> str:
        """Return one line: time, level, logger, message, and the fields. The lines of a `stack` follow it.

        Control characters of a text are written as escapes, whoever wrote it: no text makes a line of its own, or
        reaches a terminal as a command.
        """
        fields = {name: _printable(value) for name, value in getattr(record, "fields", {}).items() if name != _STACK}
        stack = getattr(record, "fields", {}).get(_STACK)
        action = getattr(record, "action", None)
        line: dict[str, Any] = {
            "time": self._time(record.created),
            "level": record.levelname.lower(),
            "logger": record.name,
            **({"action": str(action)} if action else {}),
            "message": _printable(record.getMessage()),
            **fields,
            **({_STACK: stack} if stack else {}),
        }
        if record.exc_info and (error := record.exc_info[1]):
            line["error"] = "\n".join(_lines_of(traceback.TracebackException.from_exception(error)))
        if self._as_json:
            return json.dumps(line, default=lambda value: _printable(str(value)))
        extra = " ".join(f"{name}={_printable(str(value))}" for name, value in fields.items())
        text = f"{line['time']} {record.levelname:<7} {record.name}: {line['message']} {extra}".rstrip()
        return "\n".join([text, *filter(None, (stack, line.get("error")))])


def _printable(value: Any) -> Any:
    """Return a text with its control characters as escapes such as `\\x1b`, and any other value as it is."""
    if not isinstance(value, str):
        return value
    return _CONTROL.sub(lambda found: found[0].encode("unicode_escape").decode(), value)


def _lines_of(error: traceback.TracebackException) -> Iterator[str]:
    """Yield the lines of a traceback. The frames have theirs; the text of an exception is one line."""
    before = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    if before is not None:
        yield from _lines_of(before)
        yield "which caused:" if error.__cause__ else "and while that was handled:"
    yield "Traceback (most recent call last):"
    for entry in error.stack.format():
        yield from map(_printable, entry.splitlines())
    yield _printable("".join(error.format_exception_only()).rstrip("\n"))
    for exception in error.exceptions or ():
        yield from _lines_of(exception)


class Seldom(logging.Filter):
    """Filter that passes one line a minute of each library's warnings, with the number of lines that it dropped.

    progress.py reports outages once; a library repeats them at every try.
    """

    def __init__(self, every: float = 60.0, monotonic: Callable[[], float] = time.monotonic) -> None:
        super().__init__()
        self._every = every
        self._monotonic = monotonic
        self._logged_at: dict[str, float] = {}
        self._held_back: dict[str, int] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Return True if this line is written."""
        library = record.name.partition(".")[0]
        if library == "headrace" or record.levelno >= logging.CRITICAL:
            return True
        now = self._monotonic()
        if now - self._logged_at.get(library, float("-inf")) < self._every:
            self._held_back[library] = self._held_back.get(library, 0) + 1
            return False
        self._logged_at[library] = now
        if held_back := self._held_back.pop(library, 0):
            record.msg, record.args = f"{record.getMessage()} (and {held_back} lines of {library} before)", ()
        return True


def configure(level: str = "INFO", as_json: bool = False) -> None:
    """Send headrace's logs to standard error, and other libraries' warnings."""
    stream = logging.StreamHandler(sys.stderr)
    stream.setFormatter(_Lines(as_json))
    stream.addFilter(Seldom())
    logging.basicConfig(level=logging.WARNING, handlers=[stream], force=True)
    logging.getLogger("kafka").setLevel(logging.ERROR)  # it warns of every rebalance, and retries by itself
    logging.getLogger("kombu").setLevel(logging.ERROR)  # it warns of every stale connection, and opens another
    logging.getLogger("headrace").setLevel(level)
    # No line tells of these, and to find them out takes as long as the line (logging's own advice for speed).
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False


def log(name: str, level: int, action: Action, message: str, **fields: Any) -> None:
    """Write one line about an action. Fields are ids, counts and durations; `stack` has lines of code."""
    logging.getLogger(f"headrace.{name}").log(level, message, extra={"action": action, "fields": fields})
