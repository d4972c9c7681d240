"""Jobs as JSON lines: every line is checked before anything is sent, and read again when it is to be sent."""

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, BinaryIO

from pydantic import ValidationError

from headrace_schemas import EmbeddingJob, GenerationJob
from headrace_schemas.codec import check_size, encode_value
from headrace_schemas.errors import Category, HeadraceError
from headrace_schemas.job import AnyJob, JudgedJob, ModelJob
from headrace_schemas.limits import MAX_VALUE_BYTES
from headrace_schemas.reasons import describe
from headrace_workers.core.job_defaults import Defaults, NoKind
from headrace_workers.core.json_lines import BOM, Line, LineTooLong, NoJSON, lines, parsed_object

if TYPE_CHECKING:  # it knows the ledger, and `--help` does not
    from headrace_workers.core.admission import AdmissionCheck

Job = AnyJob

MAX_LINE_BYTES = 8 * MAX_VALUE_BYTES  # JSON may write one character as six
MAX_PROBLEMS = 20  # shown; the rest are counted
_OPENAI_BATCH = {"custom_id", "method", "url", "body"}
_OPENAI_HINT = "\n`headrace batch submit FILE` runs files of OpenAI's Batch API."


class WrongLine(HeadraceError):
    """A line that is not a job; the message is the reason alone."""

    category = Category.INVALID


class OpenAIBatchLine(WrongLine):
    """A line of a file for OpenAI's Batch API."""


class WrongLines(HeadraceError):
    """A file with lines that are not jobs; nothing of it was sent. The message has a line `file:line: reason` for
    each.
    """

    category = Category.INVALID

    def __init__(self, problems: list[str], count: int, hint: str = "") -> None:
        self.count = count
        more = f"\nand {count - len(problems)} more" if count > len(problems) else ""
        noun = "line is" if count == 1 else "lines are"
        super().__init__(f"{count} {noun} wrong, and nothing was sent:\n" + "\n".join(problems) + more + hint)


def parse_job(text: bytes, defaults: Defaults) -> Job:
    """Return the job of a line, of the `kind` that it names. Raise WrongLine with the reason.

    Without a kind, a line with a text as `output` is an evaluation job, and any other a generation job.
    """
    try:
        line = parsed_object(text)
    except NoJSON as error:
        raise WrongLine(str(error)) from None
    if line.keys() >= _OPENAI_BATCH or ("custom_id" in line and "body" in line):
        raise OpenAIBatchLine("it is a line for OpenAI's Batch API")
    try:
        kind, fields = defaults.fill(line)
        filled = json.dumps(fields).encode()
        job: Job = kind.cls.model_validate_json(filled, strict=True)  # type: ignore[assignment]  # of a kind of job
    except NoKind as error:
        raise WrongLine(str(error)) from None
    except ValidationError as error:
        raise WrongLine(describe(error, filled)) from None
    try:
        for check in _checks():
            check.check(job)
            check.examine(job)
        check_size(encode_value(job))
    except HeadraceError as error:
        raise WrongLine(str(error)) from None
    return job


@cache
def _checks() -> "Sequence[AdmissionCheck]":
    from headrace_workers.core.admission import job_checks  # loads the database

    return job_checks()


@dataclass(frozen=True, slots=True)
class JobEntry:
    """A line that is a job: its number from 1, its offset in the file, the job's id, and its tenant."""

    line: int
    offset: int
    job_id: str
    tenant: str


# From a line's number and job to the job as it will be sent, and the id of the event that brings it.
Identify = Callable[[int, Job], tuple[Job, str]]


class JobFile:
    """A file of jobs, read as often as needed and never held in memory.

    `stream` must be seekable and is left open. `identify` must give the same answer each time for a line.
    """

    def __init__(self, stream: BinaryIO, name: str, defaults: Defaults, identify: Identify) -> None:
        self._stream = stream
        self._defaults = defaults
        self._identify = identify
        self.name = name
        self.models: dict[str, int] = {}  # every model that is to answer or judge, with the first line that names it
        self.wants_embedder = False  # whether a job asks for a vector
        self.wants_judge = False  # whether a rubric names no model: then somebody's model has to judge it
        self.repeated: list[tuple[int, int]] = []  # (line, earlier line) where both are the same job

    def check(self) -> list[JobEntry]:
        """Return all jobs in order, each once. Raise WrongLines if any line is not a job, or is another job under the
        key of an earlier line.
        """
        entries: dict[str, JobEntry] = {}
        again: list[tuple[JobEntry, JobEntry]] = []
        problems: list[str] = []
        count, hint = 0, ""
        for line, offset, text in self._lines():
            try:
                job, event_id = self._identify(line, parse_job(text, self._defaults))
            except WrongLine as error:
                count += 1
                hint = _OPENAI_HINT if isinstance(error, OpenAIBatchLine) else hint
                if len(problems) < MAX_PROBLEMS:
                    problems.append(f"{self.name}:{line}: {error}")
                continue
            entry = JobEntry(line, offset, job.job_id(event_id), job.tenant)
            if (first := entries.setdefault(entry.job_id, entry)) is not entry:
                again.append((entry, first))
            self._note_models(job, line)
        for entry, first in again:
            fields = self._different_fields(entry, first)
            if not fields:
                self.repeated.append((entry.line, first.line))
                continue
            count += 1
            if len(problems) < MAX_PROBLEMS:
                reason = (
                    f"it has the idempotency_key of line {first.line} and other content (it differs in "
                    f"{', '.join(fields)}): give it a key of its own"
                )
                problems.append(f"{self.name}:{entry.line}: {reason}")
        if count:
            raise WrongLines(problems, count, hint)
        return list(entries.values())

    def read(self, entry: JobEntry) -> tuple[Job, str]:
        """Return the job of an entry and its event's id. Raise WrongLine if the file has changed since."""
        self._stream.seek(entry.offset)
        text = self._stream.readline(MAX_LINE_BYTES + 1)
        job, event_id = self._identify(entry.line, parse_job(text.removeprefix(BOM), self._defaults))
        if job.job_id(event_id) != entry.job_id:
            raise WrongLine(f"{self.name}:{entry.line}: the file was changed while it was read")
        return job, event_id

    def _different_fields(self, entry: JobEntry, first: JobEntry) -> list[str]:
        from headrace_workers.core.ledger.ingest import different_fields  # loads the database

        return different_fields(self.read(first)[0], self.read(entry)[0])

    def _note_models(self, job: Job, line: int) -> None:
        self.wants_embedder |= isinstance(job, EmbeddingJob)
        is_application = isinstance(job, GenerationJob) and job.application is not None
        if isinstance(job, ModelJob) and not is_application and "@" not in job.first_model:
            self.models.setdefault(job.first_model, line)
        if isinstance(job, JudgedJob):
            for alias in job.judge_models:
                self.models.setdefault(alias, line)
            self.wants_judge |= job.asks_judge and not job.judge_models

    def _lines(self) -> Iterator[Line]:
        self._stream.seek(0)
        try:
            yield from lines(self._stream, MAX_LINE_BYTES)
        except LineTooLong as error:
            reason = f"{self.name}:{error.number}: it has more than {MAX_LINE_BYTES} bytes"
            raise WrongLines([reason], 1) from None
