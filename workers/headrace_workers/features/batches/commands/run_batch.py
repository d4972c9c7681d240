"""The jobs of a file as a batch: submitted once, with the receipts of its lines as they come.

A batch is found again by the content of the file. Its lines have the names of the jobs, so that a job that the ledger
already knows, from another call or another way, is not run again.
"""

import hashlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, BinaryIO

from pydantic_core import from_json, to_json

from headrace_schemas import Category, JobCancelled
from headrace_schemas.codec import encode_given, encode_value
from headrace_schemas.errors import HeadraceError
from headrace_schemas.event_types import job_type, kind_of
from headrace_workers.cli.connections import ring_bridges
from headrace_workers.cli.jobfile import JobEntry, JobFile
from headrace_workers.cli.receipts import Receipt
from headrace_workers.cli.waiting import Jobs
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.ledger.dead_letters import INGEST, Burial, letter
from headrace_workers.features.batches.commands.batch_files import Deployment
from headrace_workers.features.batches.new_batch import LONGEST_SECONDS, BatchOptions, submit
from headrace_workers.features.batches.store.batches import BATCH_CANCELLED, BATCH_EXPIRED, CONFLICT
from headrace_workers.files.object_store import NoSuchObject
from headrace_workers.files.service import BATCH_INPUT

_CHUNK = 1024**2  # bytes
_AT_ONCE = 8 * 1024**2  # bytes that are read of an output in one turn
_WINDOW = "30d"
_CATEGORIES = frozenset(Category)


def name_of_run(stream: BinaryIO, defaults: Defaults, name: str) -> str:
    """Return the name of a run of this file: the same for the same content, options and name."""
    found = hashlib.sha256(f"run\n{name}\n{defaults.to_json()}\n".encode())
    stream.seek(0)
    while chunk := stream.read(_CHUNK):
        found.update(chunk)
    return found.hexdigest()


class NoEnds(HeadraceError):
    """A batch that is over without an end for each of its lines."""

    category = Category.PERMANENT


class FileBatch:
    """A batch of a file's entries: each `turn` returns new receipts. All entries belong to one tenant.

    `turn` may raise Unavailable, and nothing is lost: call it again. It raises NoEnds where that would be in vain.
    """

    def __init__(
        self,
        here: Deployment,
        jobs: JobFile,
        ends: Jobs,
        *,
        tenant: str,
        entries: Sequence[JobEntry],
        run: str,
        metadata: Mapping[str, str] | None = None,
    ) -> None:
        self._here = here
        self._jobs = jobs
        self._ends = ends
        self._tenant = tenant
        self._metadata = metadata or {}
        self._open = {entry.line: entry for entry in entries}
        self._key: str | None = hashlib.sha256(f"{run}\n{tenant}".encode()).hexdigest()
        self._batch_id: str | None = None
        self._is_earlier = False  # an earlier call submitted the batch
        self._read: dict[str, int] = {}  # how many bytes of each of the batch's files were read
        self._before = len(self._open) + 1  # how many were open when the batch before this one was submitted
        self._reason = ""  # why that one told no ends

    @property
    def done(self) -> bool:
        """Return True if every entry has ended and its receipt was returned."""
        return not self._open

    @property
    def open(self) -> Collection[str]:
        """Return the ids of the jobs that have not ended."""
        return [entry.job_id for entry in self._open.values()]

    def cancel(self) -> int:
        """Cancel the entries that have not ended and return their number. Unsubmitted entries are never submitted."""
        if self._batch_id is None and self._key is not None:  # the end may have come in the midst of submitting
            known = self._here.batches.keyed(self._tenant, self._key)
            self._batch_id = None if known is None else str(known.id)
        if self.done or self._batch_id is None:
            return 0
        self._here.batches.cancel(self._batch_id)
        ring_bridges()
        return len(self._open)

    def turn(self) -> list[Receipt]:
        """Return the receipts of entries that have ended since the last turn."""
        if self.done:
            return []
        if self._batch_id is None:
            self._batch_id = self._submitted()
        batch = self._here.batches.batch(self._batch_id)
        answers, failures = ([], []) if batch is None else map(self._new_lines, (batch.output_file, batch.error_file))
        if self._open and not answers and not failures and (batch is None or batch.ended_at is not None):
            # An earlier call had receipts of some lines, and asked for the rest only; or lines were refused then, and
            # may be accepted now; or the files are gone.
            self._batch_id, self._key, self._is_earlier = None, None, False
            self._reason = (batch and batch.reason) or "the files of their batch are gone"
            self._read.clear()
        return [*self._answered(answers), *self._failed(failures)]

    def _submitted(self) -> str:
        """Return the id of the batch of the open entries: that of an earlier call if there is one, else a new one."""
        if self._key is not None and (known := self._here.batches.keyed(self._tenant, self._key)) is not None:
            self._is_earlier = True
            return str(known.id)
        if self._key is None:
            if len(self._open) == self._before:
                raise NoEnds(
                    f"{len(self._open):,} lines got no end: {self._reason}. HEADRACE_FILES must name the same place "
                    "here and for all bridges"
                )
            self._before = len(self._open)
        file = self._here.files.add(
            _lines(self._jobs, list(self._open.values())), tenant=self._tenant, purpose=BATCH_INPUT,
            name=self._jobs.name, keep=self._here.keep, lines=True,
        )  # fmt: skip
        wishes = BatchOptions(
            tenant=self._tenant, defaults=Defaults("", own_keys=True), window=LONGEST_SECONDS, window_text=_WINDOW,
            metadata=self._metadata,
        )  # fmt: skip
        batch, new = submit(self._here.ledger, file, wishes, self._key)
        if not new:
            self._here.files.remove(file.id)
        ring_bridges()
        return str(batch.id)

    def _answered(self, lines: Sequence[dict[str, Any]]) -> list[Receipt]:
        receipts = []
        for line in lines:
            number, event_type = line.pop("line"), line.pop("type")
            line.pop("custom_id", None)
            if self._open.pop(number, None) is not None:
                receipts.append(Receipt.decode(event_type, to_json(line), number))
        return receipts

    def _failed(self, lines: Sequence[dict[str, Any]]) -> list[Receipt]:
        failed = {line["line"]: line["error"] for line in lines}
        entries = [self._open[number] for number in failed if number in self._open]
        ends = {end.job_id: end for end in self._ends.ended([entry.job_id for entry in entries])}
        receipts = []
        for entry in entries:
            error = failed[entry.line]
            if self._is_earlier and entry.job_id not in ends and error["code"] in _CATEGORIES:
                continue  # it was refused then: it is sent again
            # A line that is refused now may have been answered before, when its deadline had not passed yet.
            end = None if error["code"] == CONFLICT else ends.get(entry.job_id)
            event = self._refusal(entry, error["code"], error["message"]) if end is None else end.event
            receipts.append(Receipt(event, entry.line))
            del self._open[entry.line]
        return receipts

    def _new_lines(self, file_id: str | None) -> list[dict[str, Any]]:
        """Return the lines that a file of the batch has got since it was last read, a bounded number of bytes."""
        if file_id is None:
            return []
        text, start = bytearray(), self._read.get(file_id, 0)
        with suppress(NoSuchObject):  # a bridge wrote it to another place
            for chunk in self._here.files.chunks(file_id, start):
                text += chunk
                if len(text) >= _AT_ONCE and b"\n" in chunk:
                    break
        whole = text[: text.rfind(b"\n") + 1]
        self._read[file_id] = start + len(whole)
        return [from_json(line) for line in whole.splitlines()]

    def _refusal(self, entry: JobEntry, code: str, reason: str) -> Any:
        """Return the receipt of a line that made no job, or whose job is not known any more."""
        if code == BATCH_CANCELLED:
            return JobCancelled(job_id=entry.job_id, tenant=self._tenant, reason=reason)
        job, event_id = self._jobs.read(entry)
        category = Category.EXPIRED if code == BATCH_EXPIRED else Category.PERMANENT
        kind = job_type(kind_of(job))
        assert kind is not None  # noqa: S101 - of a kind of job
        return letter(
            Burial(
                id=event_id,
                refers_to=entry.job_id,
                tenant=self._tenant,
                category=Category(code) if code in _CATEGORIES else category,
                reason=reason,
                stage=INGEST,
                topic=kind.topic,
                value=encode_value(job),
            )
        )


def _lines(jobs: JobFile, entries: Sequence[JobEntry]) -> Iterator[bytes]:
    """Yield the jobs of these entries as lines under their own numbers; the lines between them are empty.

    Each says all: nothing is left to a batch's defaults.
    """
    text, number = bytearray(), 1
    for entry in sorted(entries, key=lambda entry: entry.line):
        job, _ = jobs.read(entry)
        text += b"\n" * (entry.line - number) + b'{"kind":"%s",' % kind_of(job).encode() + encode_given(job)[1:]
        number = entry.line
        if len(text) >= _CHUNK:
            yield bytes(text)
            text.clear()
    yield bytes(text) + b"\n"
