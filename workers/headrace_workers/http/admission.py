"""Letting jobs in: checked, published to Kafka, and to be found by whoever asks from then on.

What was let in is safe. Where Kafka's log outlives the broker that means: Kafka has it (acks=all), and a row of the
ledger says so until ingest took it in, so that every gateway knows of it. With a log in memory only the ledger counts:
then it is waited for until ingest has the job.

The row of a job without a key is written while Kafka takes the job: nobody knows its id before both have happened. Who
has its key may ask for a job meanwhile, and so Kafka's word comes first there.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import Executor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, NamedTuple

from headrace_producers.sink import Record
from headrace_schemas import EmbeddingJob, Envelope, GenerationJob, ModerationJob
from headrace_schemas.codec import encode
from headrace_schemas.errors import DeadlinePassed, InvalidRecord, UnknownModel
from headrace_schemas.event_types import kind_of, topic_for, type_of
from headrace_schemas.job import POLICY_MODEL, Lane
from headrace_schemas.limits import MAX_VALUE_BYTES
from headrace_workers.core.ledger.accepted import AdmissionRequest, Reserved
from headrace_workers.core.ledger.lanes import BATCH, INTERACTIVE
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.repetitions import digest_of
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.task import Job
from headrace_workers.features.access.quota import QuotaReservations
from headrace_workers.features.generation.models.registry import Registry
from headrace_workers.features.judging.usable import check_all, is_to_check
from headrace_workers.features.knowledge.embedders.served import ServedEmbedder
from headrace_workers.features.knowledge.named import Base
from headrace_workers.features.knowledge.store.bases import KnowledgeBases
from headrace_workers.features.webhooks.allowed_targets import Reach
from headrace_workers.features.webhooks.callbacks import Named, check_url, named_by, no_such_endpoint
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.http.batcher import Batcher
from headrace_workers.http.caller import Caller, check_named
from headrace_workers.http.errors import KafkaAway, LedgerAway, Refusal, Why
from headrace_workers.http.load_shedding import LoadShedding
from headrace_workers.http.metrics import Metrics
from headrace_workers.http.prompt_lengths import Lengths
from headrace_workers.http.sink import Sink
from headrace_workers.http.waiter import Waiter

SOURCE: Final = "/headrace/gateway"
MOST_JOBS: Final = 2_048  # of one request: as many as OpenAI takes inputs for embeddings
_TAKEN_SECONDS: Final = 10.0  # until ingest took a job in, where only the ledger counts
_MARGIN_MS: Final = 2  # between two clocks that are rounded


@dataclass(frozen=True, slots=True)
class _Letter:
    """One job on its way in."""

    wish: AdmissionRequest
    record: Record
    keyed: bool


class _Sent(NamedTuple):
    """The letters of one request that Kafka has, and when it began."""

    letters: Sequence[_Letter]
    began: float


class Admission:
    """Lets jobs in. Belongs to the event loop.

    `durable`: Kafka's log outlives its broker.
    """

    def __init__(
        self,
        *,
        ledger: Ledger,
        sink: Sink,
        waiter: Waiter,
        models: Registry,
        embedder: ServedEmbedder,
        pipeline: Pipeline,
        reach: Reach,
        crowding: LoadShedding,
        executor: Executor,
        durable: bool,
        metrics: Metrics,
        allowance: QuotaReservations,
        lengths: Lengths,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        def reserve(asked: list[Sequence[AdmissionRequest]]) -> list[Sequence[Reserved]]:
            answers = iter(ledger.reserve([wish for wishes in asked for wish in wishes]))
            return [[next(answers) for _ in wishes] for wishes in asked]

        def let_in(asked: list[_Sent]) -> list[None]:
            age = time.monotonic() - min(each.began for each in asked)
            ledger.confirm_admission(
                [letter.wish for each in asked for letter in each.letters], int(age * 1000) + _MARGIN_MS
            )
            return [None] * len(asked)

        def unknown(asked: list[frozenset[Named]]) -> list[Collection[Named]]:
            missing = ledger.of(Webhooks).unknown(frozenset().union(*asked))
            return [missing & each for each in asked]

        def unknown_bases(asked: list[frozenset[Base]]) -> list[Collection[Base]]:
            missing = ledger.of(KnowledgeBases).unknown(frozenset().union(*asked))
            return [missing & each for each in asked]

        self._unknown: Batcher[frozenset[Named], Collection[Named]] = Batcher(unknown, executor)
        self._unknown_bases: Batcher[frozenset[Base], Collection[Base]] = Batcher(unknown_bases, executor)
        self._reserve: Batcher[Sequence[AdmissionRequest], Sequence[Reserved]] = Batcher(reserve, executor)
        self._let_in: Batcher[_Sent, None] = Batcher(let_in, executor)

        def forget(asked: list[Sequence[str]]) -> list[None]:
            ledger.withdraw_admission([job_id for job_ids in asked for job_id in job_ids])
            return [None] * len(asked)

        self._forget: Batcher[Sequence[str], None] = Batcher(forget, executor)
        self._sink = sink
        self._waiter = waiter
        self._models = models
        self._embedder = embedder
        self._pipeline = pipeline
        self._reach = reach
        self._crowding = crowding
        self._durable = durable
        self._metrics = metrics
        self._allowance = allowance
        self._lengths = lengths
        self._executor = executor
        self._now = now

    async def submit(
        self, caller: Caller, jobs: Sequence[Job], *, traceparent: str | None = None, correlationid: str | None = None
    ) -> list[str]:
        """Let these jobs in, and return their ids, in order. A job that was let in before under its key is no error.

        Raises 403 for what a job names and the caller may not read, InvalidRecord, UnknownModel, PromptTooLong and
        DeadlinePassed for a job that cannot be run, 409 where its key belongs to another job, 429 where it would only
        wait or goes beyond its tenant's quota, 503 where Kafka or the ledger does not answer: each before anything was
        sent, but for the last. Then `again` tells whether a second try might make a second job.
        """
        if len(jobs) > MOST_JOBS:
            raise InvalidRecord(f"{len(jobs)} jobs in one request; at most {MOST_JOBS} are taken")
        if self._waiter.stopping:
            raise Refusal(Why.STOPPING, "this gateway is being stopped: send again", retry_after=1.0)
        check_named(caller, jobs)
        self._check(jobs)
        await self._check_criteria(jobs)
        await self._lengths.check(jobs)
        await self._check_callbacks(jobs)
        await self._check_bases(jobs)
        began, at = time.monotonic(), self._now()
        letters = [_letter(job, at, traceparent, correlationid) for job in jobs]
        await self._crowding.check(
            {self._place(job, each.wish.job_id) for job, each in zip(jobs, letters, strict=True)}
        )
        to_send = await self._reserved(letters)
        wanted = {id(letter) for letter in to_send}
        paid = await self._allowance.reserve(
            [(each.wish, job) for job, each in zip(jobs, letters, strict=True) if id(each) in wanted]
        )
        await self._send(to_send, began, paid)
        for job in jobs:
            self._metrics.let_in(kind_of(job))
        return [letter.wish.job_id for letter in letters]

    def check_model(self, alias: str) -> None:
        """UnknownModel where no model of this deployment is called so."""
        if alias not in self._models:
            known = ", ".join(self._models.aliases()) or "none"
            raise UnknownModel(f"no model is called {alias!r}; known are: {known}")

    def _check(self, jobs: Sequence[Job]) -> None:
        now = self._now()
        for job in jobs:
            check_url(job.callback, self._reach)
            if job.deadline is not None and job.deadline <= now:
                raise DeadlinePassed(f"the deadline {job.deadline.isoformat()} has passed")
            for alias in sorted(self._pipeline.models_of(job)):
                self.check_model(alias)
            if isinstance(job, EmbeddingJob):
                self._embedder.check(job.model)
            if isinstance(job, ModerationJob) and job.model not in (None, POLICY_MODEL):
                raise UnknownModel(f"no moderator is called {job.model!r}; there is: {POLICY_MODEL}")

    async def _check_criteria(self, jobs: Sequence[Job]) -> None:
        judged = [job for job in jobs if is_to_check(job)]
        if judged:  # which a hostile one makes long
            await asyncio.get_running_loop().run_in_executor(self._executor, check_all, judged)

    async def _check_callbacks(self, jobs: Sequence[Job]) -> None:
        named = frozenset(found for job in jobs if (found := named_by(job.tenant, job.callback)) is not None)
        if named and (missing := await self._unknown.ask(named)):
            raise no_such_endpoint(min(missing))

    async def _check_bases(self, jobs: Sequence[Job]) -> None:
        named = frozenset(
            (job.tenant, job.knowledge) for job in jobs if isinstance(job, GenerationJob) and job.knowledge
        )
        if named and (missing := await self._unknown_bases.ask(named)):
            _, base = min(missing)
            raise Refusal(
                Why.NOT_FOUND, f"this tenant has no vector store, and no knowledge base, {base!r}", param="knowledge"
            )

    def _place(self, job: Job, job_id: str) -> tuple[str, int]:
        route = self._pipeline.next_step(job_id, job, job)
        if route is None:
            raise InvalidRecord(f"no stage of this deployment takes {type_of(job)}")
        return route.queue, INTERACTIVE if job.lane is Lane.INTERACTIVE else BATCH

    async def _reserved(self, letters: Sequence[_Letter]) -> list[_Letter]:
        """Those that are to be sent. Nobody else can have the id of one without a key."""
        wanted = [letter for letter in letters if letter.keyed or not self._durable]
        if not wanted:
            return list(letters)
        answers = await self._reserve.ask([letter.wish for letter in wanted])
        told = {id(letter): answer for letter, answer in zip(wanted, answers, strict=True)}
        for letter in letters:
            if told.get(id(letter)) is Reserved.OTHER:
                raise Refusal(
                    Why.CONFLICT,
                    f"the idempotency key of job {letter.wish.job_id} belongs to other content, and that holds",
                    again=False,
                    job_id=letter.wish.job_id,
                )
        return [letter for letter in letters if told.get(id(letter)) is not Reserved.KNOWN]

    async def _send(self, letters: Sequence[_Letter], began: float, paid: bool) -> None:
        if not letters:
            return
        # Under a key a second try is the same job; without one it would be a second job.
        keyed, free = [each for each in letters if each.keyed], [each for each in letters if not each.keyed]
        again = False if free else None
        job_id = letters[0].wish.job_id if len(letters) == 1 else None
        found = self._let_in.put(_Sent(free, began)) if free and self._durable else None
        try:
            await self._sink.publish([letter.record for letter in letters])
        except KafkaAway as error:
            if found is not None:
                await self._withdraw(found, [letter.wish.job_id for letter in free])
            if error.again is None:
                if paid:
                    await self._allowance.release([letter.wish for letter in letters])
                raise
            raise KafkaAway(f"{error}; the job may still be run", error.why, again=again, job_id=job_id) from error
        if not self._durable:
            await self._taken_in([letter.wish.job_id for letter in letters], again, job_id)
            return
        try:
            if found is not None:
                await self._let_in.answer(found)
            if keyed:
                await self._let_in.ask(_Sent(keyed, began))
        except LedgerAway as error:
            raise LedgerAway(f"{error}; Kafka has the job, and it will be run", again=again, job_id=job_id) from error

    async def _withdraw(self, found: "asyncio.Future[None]", job_ids: Sequence[str]) -> None:
        """Kafka may not have these: who asks for them is to find those alone that were taken in."""
        with suppress(LedgerAway):
            await self._let_in.answer(found)
        with suppress(LedgerAway):  # then they are said to be accepted, of which nobody was told so
            await self._forget.ask(job_ids)

    async def _taken_in(self, job_ids: Collection[str], again: bool | None, job_id: str | None) -> None:
        taken = await self._waiter.taken(job_ids, _TAKEN_SECONDS)
        for letter in taken.values():
            if letter is not None:
                raise InvalidRecord(letter.reason)
        if len(taken) < len(set(job_ids)):
            raise LedgerAway("no bridge has taken the job in yet; it may still be run", again=again, job_id=job_id)


def _letter(job: Job, at: datetime, traceparent: str | None, correlationid: str | None) -> _Letter:
    event_id = str(uuid.uuid4())
    job_id = job.job_id(event_id)
    envelope = Envelope(
        id=event_id,
        type=type_of(job),
        source=SOURCE,
        time=at,
        subject=job_id,
        partitionkey=job_id,
        traceparent=traceparent,
        correlationid=correlationid,
        expirytime=job.deadline,
    )
    headers, value = encode(job, envelope)
    if len(value) > MAX_VALUE_BYTES:
        raise InvalidRecord(f"the job has {len(value)} bytes as JSON, more than the {MAX_VALUE_BYTES} that are taken")
    wish = AdmissionRequest(job_id, job.tenant, value, digest_of(job, value))
    record = Record(topic_for(job), job_id.encode(), headers, value, job_id)
    return _Letter(wish, record, job.idempotency_key is not None)
