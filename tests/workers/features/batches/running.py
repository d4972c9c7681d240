"""Batches without processes: the bridge's duty is done turn by turn, and jobs end when a test says so."""

import json
from datetime import UTC, datetime

from sqlalchemy import select, update
from tests.workers.runtime.bridge.records import rules_of

from headrace_schemas import Answer, Category, Result, StageRecord, Usage
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.identity import end_id, process_name
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.dead_letters import job_burial
from headrace_workers.core.ledger.outbox import outgoing
from headrace_workers.core.ledger.outcome import Dead, Ended
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.batches.duty import BatchDuty, Feed, LineQuota
from headrace_workers.features.batches.new_batch import BatchOptions, retry_failed, submit
from headrace_workers.features.batches.output_lines import Outputs, Rewriting
from headrace_workers.features.batches.store.transactions import Batches
from headrace_workers.features.batches.tables import BATCHES
from headrace_workers.features.webhooks.targets import Reach
from headrace_workers.files.object_store import Store
from headrace_workers.files.service import Files
from headrace_workers.files.store.stored import StoredFiles
from headrace_workers.runtime.bridge.duty import IncidentReporter
from headrace_workers.runtime.bridge.record_admission import RecordAdmission

DEFAULTS = Defaults("echo", {"tenant": "a", "lane": "batch"})


def jobs(count, **fields):
    return [{"prompt": f"number {number}", **fields} for number in range(1, count + 1)]


def text_of(lines):
    """Lines as a file; what is bytes stands as it is."""
    return b"".join((line if isinstance(line, bytes) else json.dumps(line).encode()) + b"\n" for line in lines)


def with_usage(row, prompt=3, completion=2, attempt=1):
    answer = Answer(
        text="yes", finish_reason="stop", model="echo", quantization="none",
        usage=Usage(prompt_tokens=prompt, completion_tokens=completion),
    )  # fmt: skip
    stage = StageRecord(stage="generate", attempt=attempt, waited_ms=1, ran_ms=1, group_size=1)
    return Result(
        job_id=row.job_id, tenant="a", status="completed", kind="generation", answer=answer, stages=(stage,),
        accepted_at=datetime.now(UTC),
    )  # fmt: skip


class Running:
    """A ledger and a file store with the duty over both. `bridge` makes another duty over the same."""

    def __init__(self, ledger, folder, *, most=1_000, window=1_000, store=None, clock=None):
        self.ledger = ledger
        self.store = store or Store.at(str(folder / "files"))
        self.files = Files(ledger.of(StoredFiles), self.store)
        self.heard = []
        self.reach = Reach(http_loopback=True)  # of callbacks
        self._limits = LineQuota(most, window)
        self._clock = clock or SystemClock()
        self.bulk = self.bridge()

    def bridge(self):
        name, clock = process_name("bridge"), self._clock
        return BatchDuty(
            ledger=self.ledger,
            files=self.files,
            feed=Feed(batches=self.ledger.of(Batches), files=self.files, admit=self.admit, clock=clock),
            outputs=Outputs(batches=self.ledger.of(Batches), files=self.files, keep=3_600),
            rewriting=Rewriting(batches=self.ledger.of(Batches), files=self.files),
            room=self._limits,
            bridge=name,
            clock=clock,
            incidents=IncidentReporter(self.ledger, name, clock),
            keep=3_600,
        )

    def admit(self):
        return RecordAdmission(rules_of(self.ledger, self.reach), self.ledger.now()).admit

    def submit(self, lines, *, key=None, **wishes):
        data = lines if isinstance(lines, bytes) else text_of(lines)
        file = self.files.add([data], tenant="a", purpose="batch", name="jobs.jsonl", keep=None, lines=True)
        batch, _ = submit(
            self.ledger, file, BatchOptions(**{"tenant": "a", "defaults": DEFAULTS, **wishes}), key, self.reach
        )
        return batch.id

    def again(self, batch_id, max_tokens=None):
        return retry_failed(self.ledger.of(Batches), self.files, self.batch(batch_id), max_tokens=max_tokens, keep=None)

    def turn(self, count=1):
        """So many turns of the duty; how many lines moved."""
        return sum(self.bulk.once(self.heard.append) for _ in range(count))

    def settle(self):
        while self.turn():
            pass
        self.turn(2)

    def end(self, make=with_usage, limit=None, queue="model.echo"):
        """End jobs that wait, all or so many, as `make` says; how many."""
        wanted = Wanted(queue, 1, 50, 1_000) if limit is None else Wanted(queue, 1, 1, limit)
        claims = self.ledger.claim([wanted], lease_ms=60_000, sender="b").claims
        ended = 0
        for claim in claims:
            started = self.ledger.start(claim.id, worker="w", lease_ms=60_000)
            settled = [self._settled(row, make(row)) for row in started.steps]
            assert self.ledger.complete(claim.id, settled, ran_ms=1, quantum_ms=1_000)
            ended += len(settled)
        return ended

    @staticmethod
    def _settled(row, event):
        if isinstance(event, tuple):
            category, reason, *where = event
            stage, attempts = where or ("generate", row.attempts)
            dead = Dead(category, reason)
            return StepResult(row.job_id, dead, burial=job_burial(row, stage, dead, attempts=attempts))
        name = end_id(row.job_id, "headrace.result.v1")
        end = outgoing(event, event_id=name, job_id=row.job_id, traceparent=None, correlationid=None, at_ms=1)
        return StepResult(row.job_id, Ended(event), end=end)

    def run(self, make=with_usage):
        while self.turn() or self.end(make):
            pass
        self.settle()

    def batch(self, batch_id):
        return self.ledger.of(Batches).batch(batch_id)

    def output(self, batch_id):
        return self._lines(self.batch(batch_id).output_file)

    def errors(self, batch_id):
        lines = self._lines(self.batch(batch_id).error_file)
        return sorted((item["line"], item["error"]["code"]) for item in lines)

    def error_lines(self, batch_id):
        return self._lines(self.batch(batch_id).error_file)

    def _lines(self, file_id):
        if file_id is None:
            return []
        return [json.loads(line) for line in b"".join(self.files.chunks(file_id)).splitlines()]

    def jobs(self):
        rows = self.ledger.read(select(JOBS).order_by(JOBS.c.line))
        return [row for row in rows if row.kind == "generation"]

    def set(self, batch_id, **values):
        """Change a batch, such as when it expires."""
        with writing(self.ledger.engine) as tx:
            tx.execute(update(BATCHES).where(BATCHES.c.id == batch_id).values(**values))


def dead(_row):
    return Category.PERMANENT, "no"
