"""The lines of a batch's output and error files: one finished line, results added to files that grow, and files
written again after objects of theirs were lost.
"""

import io
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, NamedTuple

from pydantic_core import from_json, to_json
from sqlalchemy import Row

from headrace_schemas.codec import decode_value
from headrace_schemas.event_types import type_named
from headrace_schemas.events import DeadLetter, JobCancelled, Result, made_in
from headrace_schemas.job import derive_job_id
from headrace_schemas.recall import CacheTier
from headrace_schemas.topics import Topic
from headrace_workers.core.json_lines import NoJSON, Read, parsed, read_on
from headrace_workers.core.log import Action, log
from headrace_workers.core.text_file import NotReadable, text_of
from headrace_workers.features.batches.lines import LONGEST_LINE, NoJob, Terms, is_request, job_ids, read, terms_of
from headrace_workers.features.batches.store.batches import BATCH_CANCELLED, BATCH_EXPIRED, DONE, FAILED, LOST
from headrace_workers.features.batches.store.outputs import Anew, EndedLine, Fate, JobEnd
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.files.object_store import NoSuchObject, StoreUnavailable
from headrace_workers.files.service import Files
from headrace_workers.files.store.files import Growth, NewFile, Overtaken, Piece
from headrace_workers.http.openai import Refused

# A line that has ended, as its sender reads it, and what is counted of it. Pure.
#
# The answer to a job of headrace stands in the output as `headrace run` writes receipts: the event, its type, the
# line's number and its `custom_id`. The answer to an OpenAI request has OpenAI's shape, with the line's number. A line
# without an answer stands in the error file in OpenAI's shape, whichever kind it was.

CANCELLED: Final = "cancelled"
_RUNS: Final = frozenset({"generate", "embed", "decide"})  # the stages in which a model runs for the job itself
_BEFORE: Final = frozenset({"ingest", "screen", "recall"})  # those that come ahead of it
_ASK_A_MODEL: Final = (Topic.GENERATION, Topic.EMBEDDING)  # the topics of jobs that have such a stage
_JUDGES: Final = "rubric"  # and the one in which it reads question and answer


class OutputLine(NamedTuple):
    """A line for the output, or, when it failed, for the error file; and what is counted of it."""

    text: bytes
    fate: Fate


@dataclass(frozen=True, slots=True)
class Circumstances:
    """The view of a batch's lines at its end: their tenant, and if the batch was cancelled or is late."""

    terms: Terms
    cancelled: bool
    late: bool

    @classmethod
    def of(cls, batch: Row[Any], now: int) -> "Circumstances":
        """Return the circumstances of a batch at this time by the ledger's clock (ms)."""
        return cls(terms_of(batch), batch.cancelling_at is not None, batch.expires_at <= now)


def output_line(line: EndedLine, seen: Circumstances) -> OutputLine:
    """Return what to write of a line."""
    if line.code is not None or not line.ends:
        code = line.code or LOST
        return _failed(
            line, seen, code, line.reason or "its job is not known any more", None, spent=0, param=line.param
        )
    if line.text is not None:
        return _answered_request(line, line.text, seen)
    (end,) = line.ends
    event = from_json(end.event)
    kind = type_named(end.event_type)
    if kind is not None and kind.cls is Result:
        return OutputLine(_receipt(line, end), _answered(line, event))
    code, reason = why(event, kind.cls if kind else None, seen)
    return _failed(line, seen, code, reason, receipt_of(end, event), spent=_spent_in_vain(line, event))


def _answered_request(line: EndedLine, text: bytes, seen: Circumstances) -> OutputLine:
    """The answer to a request, made of all its jobs' ends."""
    try:
        request = read(parsed(text), line.number, seen.terms)
    except (NoJob, NoJSON) as error:  # a version that no longer reads it
        return _failed(line, seen, LOST, f"the line cannot be read any more: {error}", None, spent=0)
    by_id = {end.job_id: end for end in line.ends}
    ends = [by_id[job_id] for job_id in job_ids(request) if job_id in by_id]
    if len(ends) < len(request.jobs):
        return _failed(line, seen, LOST, "its jobs are not known any more", None, spent=0)
    events = [from_json(end.event) for end in ends]
    classes = [kind.cls if (kind := type_named(end.event_type)) else None for end in ends]
    fates = [
        _answered(line, event) if cls is Result else Fate(line, spent=_spent_in_vain(line, event))
        for cls, event in zip(classes, events, strict=True)
    ]
    fate = Fate(
        line,
        cached=all(item.cached for item in fates),
        prompt_tokens=sum(item.prompt_tokens for item in fates),
        completion_tokens=sum(item.completion_tokens for item in fates),
        spent=sum(item.spent for item in fates),
    )
    try:
        body = request.answer([decode_value(end.event_type, end.event) for end in ends])  # type: ignore[misc]
    except Refused as error:
        code, reason = error.code or "refused", str(error)
        for cls, event in zip(classes, events, strict=True):
            if cls is not Result:
                code, reason = why(event, cls, seen)
                break
        response = {"status_code": error.status, "request_id": ends[0].job_id, "body": error.body()}
        failed = _failed(line, seen, code, reason, receipt_of(ends[0], events[0]), spent=fate.spent, response=response,
                         param=error.param)  # fmt: skip
        return failed._replace(fate=replace(fate, code=code))
    output = {
        "id": request_id(line, seen),
        "custom_id": line.custom_id,
        "line": line.number,
        "response": {"status_code": 200, "request_id": ends[0].job_id, "body": body},
        "error": None,
    }
    return OutputLine(to_json(output) + b"\n", fate)


def why(event: dict[str, Any], cls: type | None, seen: Circumstances) -> tuple[str, str]:
    """Code and reason of an end without an answer."""
    if cls is JobCancelled:
        reason = event.get("reason") or "it was cancelled"
        return (BATCH_CANCELLED if seen.cancelled else CANCELLED), reason
    if cls is DeadLetter:
        category = str(event["category"])
        code = event.get("failure") or event.get("code") or category
        return (BATCH_EXPIRED if category == "expired" and seen.late else code), str(event["reason"])
    return LOST, "its end cannot be read by this version"


def _receipt(line: EndedLine, end: JobEnd) -> bytes:
    head: dict[str, Any] = {"line": line.number}
    if line.custom_id is not None:
        head["custom_id"] = line.custom_id
    head["type"] = end.event_type
    return to_json(head)[:-1] + b"," + end.event[1:] + b"\n"


def _failed(
    line: EndedLine,
    seen: Circumstances,
    code: str,
    reason: str,
    receipt: dict[str, Any] | None,
    *,
    spent: int,
    response: dict[str, Any] | None = None,
    param: str | None = None,
) -> OutputLine:
    body: dict[str, Any] = {
        "id": request_id(line, seen),
        "custom_id": line.custom_id,
        "line": line.number,
        "response": response,
        "error": {"code": code, "message": reason, "param": param},
    }
    if receipt is not None:
        body["receipt"] = receipt
    return OutputLine(to_json(body) + b"\n", Fate(line, code, spent=spent))


def request_id(line: EndedLine, seen: Circumstances) -> str:
    """Return OpenAI's name of the request of a line."""
    return f"batch_req_{seen.terms.batch_id.removeprefix('batch_')}_{line.number}"


def receipt_of(end: JobEnd, event: dict[str, Any]) -> dict[str, Any]:
    """The end of a job without its texts: what was asked, and what was answered, stand elsewhere."""
    kept = {name: value for name, value in event.items() if name != "original"}
    if isinstance(answer := kept.get("answer"), dict):
        kept["answer"] = {name: value for name, value in answer.items() if name != "text"}
    return {"type": end.event_type, **kept}


def _answered(line: EndedLine, event: dict[str, Any]) -> Fate:
    made = made_in(event)
    usage = made.get("usage") or {}
    prompt, completion = usage.get("prompt_tokens", 0), usage.get("completion_tokens", 0)
    tier = (made.get("recall") or {}).get("tier", CacheTier.NONE.value)
    cached = tier != CacheTier.NONE.value
    return Fate(
        line,
        cached=cached,
        prompt_tokens=prompt,
        completion_tokens=completion,
        spent=spent(line, event, prompt + completion),
    )


def spent(line: EndedLine, event: dict[str, Any], used: int) -> int:
    """Return the cost of an answer: the tokens `used`, the possible cost of failed attempts, and the tokens that judges
    read.

    Of an answer that was made again `used` has the tokens of all together, and a judge read one of them each time.
    """
    stages = event.get("stages", ())
    runs: list[int] = [stage["attempt"] for stage in stages if stage["stage"] in _RUNS]
    read: int = sum(stage["attempt"] for stage in stages if stage["stage"] == _JUDGES)
    failed = sum(runs) - len(runs)
    return (used if runs else 0) + failed * line.tokens + math.ceil(read * used / max(1, len(runs)))


def _spent_in_vain(line: EndedLine, event: dict[str, Any]) -> int:
    """Return the tokens charged for runs without an answer. Their true use is unknown, so each counts as its
    reservation. If a later stage failed, the model ran once at most (not at all if a person withheld the job), however
    often the stage was tried. If an earlier stage failed, the model did not run.
    """
    ran = any(stage["stage"] in _RUNS for stage in event.get("stages", ()))
    tried, stage = int(event.get("attempts", 0)), event.get("stage")
    if stage in _BEFORE:
        tried = 0
    elif stage not in _RUNS:
        tried = 1 if event.get("topic") in _ASK_A_MODEL else min(1, tried)
    return line.tokens * max(tried, int(ran))


# Results of lines, brought into the files of their batch, which grow while it runs.
#
# An object in the store counts once the ledger says so, in the transaction that marks its lines: until then the lines
# stay to be written. So no line is in a file twice, and none is lost.

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
        found = [output_line(line, seen) for line in lines]
        answers = [line for line in found if line.fate.code is None]
        failures = [line for line in found if line.fate.code is not None]
        output = self._growth(batch, "output", batch.output_file, answers)
        errors = self._growth(batch, "errors", batch.error_file, failures)
        try:
            self._batches.collected(batch.number, [line.fate for line in found], output, errors)
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

    def _growth(self, batch: Row[Any], what: str, file_id: str | None, found: Sequence[OutputLine]) -> Growth | None:
        if not found:
            return None
        name = file_id or f"file-{batch.id.removeprefix('batch_')}-{what}"
        keep_ms = self._keep_ms if batch.output_ms is None else batch.output_ms
        file = NewFile(id=name, tenant=batch.tenant, purpose=PURPOSE, name=f"{batch.id}_{what}.jsonl", keep_ms=keep_ms)
        return self._files.growth(file, b"".join(line.text for line in found))


# Files of an open batch of which somebody removed objects from the store: they are written anew.
#
# What the objects that are left hold stays. Of the other lines the ends of their jobs are in the ledger, mostly; a line
# of which they are not is told in the error file, and can be run again.

_LINES_REWRITTEN_AT_ONCE: Final = 1_000  # that are asked for
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
        named = {piece for group in pieces.values() for piece in group}
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
            return {from_json(line.text)["line"] for line in lines}

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
                yield line.number, output_line(refused, seen).text
        found: list[tuple[Row[Any], bytes | None, list[str]]] = []
        for sent in _telling(self._input(batch), alive):
            if sent.number in wanted:
                found.append((wanted[sent.number], *_jobs_of(sent, terms)))
            if len(found) >= _LINES_REWRITTEN_AT_ONCE:
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
            rewritten = output_line(ended, as_then)
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
        if line.number - told_line >= _LINES_REWRITTEN_AT_ONCE or line.end - told_byte >= _TOLD_BYTES:
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
