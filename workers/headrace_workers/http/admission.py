"""Admission over HTTP: jobs are checked, published to Kafka, and can be looked up from then on.

A job that was admitted is safe. Where Kafka's log outlives the broker, Kafka has it (acks=all), and a row of the ledger
says so until ingest takes it in, so that every gateway knows of it. With a log in memory only the ledger counts: then
the gateway waits until ingest has the job.

The row of a job without a key is written while Kafka takes the job: nobody knows its id before both have happened. The
id of a job with a key can be known, so its row is reserved first, and says that the job is published when Kafka has
confirmed it. A job that was not sent gives its row back.
"""

import asyncio
import time
import uuid
from collections.abc import Callable, Collection, Hashable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import partial
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from headrace_producers.sink import Record
from headrace_schemas import Envelope, GenerationJob
from headrace_schemas.codec import check_size, encode, encode_given
from headrace_schemas.errors import HeadraceError, InvalidRecord, Unavailable, UnknownModel
from headrace_schemas.event_types import kind_of, topic_for, type_of
from headrace_schemas.job import Lane
from headrace_workers.core.admission import AdmissionCheck, AdmissionRules, Named, ResolvedJob, milliseconds, named_by
from headrace_workers.core.ledger.accepted import AdmissionRequest, Reserved
from headrace_workers.core.ledger.counts import Pressure, QueueLane
from headrace_workers.core.ledger.ingest import RecordContent, digest_of
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.steps import BATCH, INTERACTIVE
from headrace_workers.core.pipeline.task import Job
from headrace_workers.http.batcher import Batcher, for_all
from headrace_workers.http.caller import Caller, check_named
from headrace_workers.http.errors import LedgerOutage, Refusal, Why, stopping
from headrace_workers.http.limits import Slot, TenantSlots
from headrace_workers.http.metrics import Metrics
from headrace_workers.http.sink import Sink
from headrace_workers.http.timeouts import Timeouts
from headrace_workers.http.waiter import Waiter

THREADS: Final = 4  # so many processes compile formats at a time
AT_A_TIME: Final = 3  # of one tenant: fewer than there are threads

T = TypeVar("T")
_FRESH_SECONDS: Final = 1.0
_WAIT_FULL: Final = 5.0  # seconds to a next try
_WAIT_OLD: Final = 10.0
SOURCE: Final = "/headrace/gateway"
_RENDERED_HERE: Final = 2  # jobs with applications that are rendered in the event loop, at most 5 ms each
_RENDERING_SECONDS: Final = 5.0  # for the applications of one request
MOST_JOBS: Final = 2_048  # of one request: as many as OpenAI takes inputs for embeddings
_MARGIN_MS: Final = 2  # between two clocks that are rounded


@dataclass(frozen=True, slots=True)
class EncodedJob:
    """A job on its way to Kafka, with its chain of models. `tokens` is the cost of one answer, if it was counted."""

    request: AdmissionRequest
    resolved: ResolvedJob
    tokens: int | None
    record: Record
    keyed: bool


class _Sent(NamedTuple):
    """The letters of one request that Kafka has, and when it began."""

    letters: Sequence[EncodedJob]
    began: float


class Want(NamedTuple):
    """A job to be sent by the holder of a key, and the tokens of one answer, if they were counted."""

    request: AdmissionRequest
    resolved: ResolvedJob
    tokens: int | None
    key_id: str = ""


class Quotas(Protocol):
    """The quotas of tenants, as far as admission asks about them."""

    async def reserve(self, wants: Sequence[Want]) -> bool:
        """Reserve what these jobs of one tenant may use; return True if that was needed.

        Raise a refusal (429) if too little is left, and the error of a job whose tokens cannot be counted.
        """

    async def release(self, requests: Sequence[AdmissionRequest]) -> None:
        """Release the reservations of these jobs, which were not sent."""


class LoadShedding:
    """The refusal of jobs that would only wait. Belongs to the event loop.

    `most` jobs may be open in the ledger: beyond that ingest takes none, and new jobs would pile up in Kafka. An
    interactive job is refused while those before it have waited `longest` seconds in its queue; bulk work may wait.
    """

    def __init__(
        self,
        look: Callable[[Collection[QueueLane]], Pressure],
        executor: Executor,
        *,
        most: int,
        longest: float,
        patience: float,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._look: Batcher[frozenset[QueueLane], Pressure] = Batcher(for_all(look), executor, patience=patience)
        self._most = most
        self._longest_ms = longest * 1000
        self._monotonic = monotonic
        self._seen: Pressure = Pressure(0)
        self._places: frozenset[QueueLane] = frozenset()
        self._seen_at = float("-inf")

    async def check(self, places: Collection[QueueLane]) -> None:
        """Raise 429 where jobs in one of these places would wait too long, or the ledger is full."""
        wanted = frozenset(places)
        now = self._monotonic()
        fresh = now - self._seen_at <= _FRESH_SECONDS
        if not (fresh and wanted <= self._places):
            looked = wanted | self._places if fresh else wanted
            self._seen = await self._look.ask(looked)
            self._places, self._seen_at = looked, now
        if self._seen.active >= self._most:
            raise Refusal(
                Why.LEDGER_FULL,
                f"{self._seen.active} jobs are open; the limit is {self._most}: send again when some have ended",
                retry_after=_WAIT_FULL,
            )
        for queue, lane in wanted:
            age = self._seen.ages.get((queue, lane), 0)
            if lane == INTERACTIVE and age > self._longest_ms:
                raise Refusal(
                    Why.QUEUE_AGE,
                    f"interactive jobs have waited {age / 1000:.0f} s in the queue {queue}: send again later, "
                    "or as bulk work (lane batch)",
                    retry_after=_WAIT_OLD,
                )


class Admission:
    """The admission of jobs. Belongs to the event loop. `durable`: Kafka's log outlives its broker."""

    def __init__(
        self,
        *,
        ledger: Ledger,
        sink: Sink,
        waiter: Waiter,
        rules: AdmissionRules,
        load_shedding: LoadShedding,
        executor: Executor,
        durable: bool,
        metrics: Metrics,
        quotas: Quotas,
        timeouts: Timeouts,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        def reserve(calls: list[Sequence[AdmissionRequest]]) -> list[Sequence[Reserved]]:
            answers = iter(ledger.reserve([request for requests in calls for request in requests]))
            return [[next(answers) for _ in requests] for requests in calls]

        def publish(calls: list[_Sent]) -> list[None]:
            age = time.monotonic() - min(call.began for call in calls)
            ledger.confirm_admission(
                [letter.request for call in calls for letter in call.letters], int(age * 1000) + _MARGIN_MS
            )
            return [None] * len(calls)

        self._find: Batcher[frozenset[Hashable], Mapping[Any, Any]] = Batcher(
            for_all(rules.find), executor, patience=timeouts.ledger
        )

        def are_known(calls: list[Sequence[RecordContent]]) -> list[bool]:
            return [not ledger.conflict_reasons(contents) for contents in calls]

        self._is_known: Batcher[Sequence[RecordContent], bool] = Batcher(are_known, executor, patience=timeouts.ledger)
        self._lookups = [(check, _lookup(check, executor, timeouts.ledger)) for check in rules.checks]
        self._reserve: Batcher[Sequence[AdmissionRequest], Sequence[Reserved]] = Batcher(
            reserve, executor, patience=timeouts.ledger
        )
        self._publish: Batcher[_Sent, None] = Batcher(publish, executor, patience=timeouts.ledger)

        def forget(calls: list[Sequence[str]]) -> list[None]:
            ledger.withdraw_admission([job_id for job_ids in calls for job_id in job_ids])
            return [None] * len(calls)

        self._forget: Batcher[Sequence[str], None] = Batcher(forget, executor, patience=timeouts.ledger)
        self._sink = sink
        self._waiter = waiter
        self._rules = rules
        self._load_shedding = load_shedding
        self._durable = durable
        self._metrics = metrics
        self._quotas = quotas
        self.examinations = Examinations(timeouts.begun)
        self._renderings = Examinations(timeouts.begun, at_a_time=1)
        self._timeouts = timeouts
        self._now = now

    async def submit(
        self, caller: Caller, jobs: Sequence[Job], *, traceparent: str | None = None, correlationid: str | None = None
    ) -> list[str]:
        """Admit these jobs, and return their ids, in order. A job that was admitted before under its key is no error.

        Raises 403 for what a job names and the caller may not read, InvalidRecord, UnknownModel, PromptTooLong and
        DeadlinePassed for a job that cannot be run, 409 where its key belongs to another job, 429 where it would only
        wait or goes beyond its tenant's quota, 503 where Kafka or the ledger does not answer: each before anything was
        sent, but for the last. Then `should_retry` is False if a second try might make a second job.
        """
        if len(jobs) > MOST_JOBS:
            raise InvalidRecord(f"{len(jobs)} jobs in one request; at most {MOST_JOBS} are taken")
        if self._waiter.stopping:
            raise stopping()
        check_named(caller, jobs)
        try:
            resolved, pins = await self.resolve(jobs)
        except (InvalidRecord, UnknownModel):
            if (known := await self._known(jobs)) is not None:
                return known
            raise
        try:
            self._check(resolved)
        except UnknownModel:  # a look at what jobs name may find models of other machines
            await self._check_named(resolved)
            self._check(resolved)
        tokens = await self._examine(caller.tenant, resolved)
        await self._check_named(resolved)
        began, at = time.monotonic(), self._now()
        letters = [
            _letter(*parts, at, traceparent, correlationid) for parts in zip(jobs, resolved, pins, tokens, strict=True)
        ]
        await self._load_shedding.check({self._place(letter) for letter in letters})
        to_send = await self._reserved(letters)
        try:
            paid = await self._quotas.reserve(
                [Want(letter.request, letter.resolved, letter.tokens, caller.key_id) for letter in to_send]
            )
        except HeadraceError:
            await self._withdraw([letter for letter in to_send if self._is_reserved(letter)])
            raise
        await self._send(to_send, began, paid)
        for job in jobs:
            self._metrics.count_admitted(kind_of(job))
        return [letter.request.job_id for letter in letters]

    async def resolve(self, jobs: Sequence[Job]) -> tuple[list[ResolvedJob], list[str | None]]:
        """Return the jobs as they are to be run, and what their records say of the versions of applications.

        Raise UnknownModel and InvalidRecord for a job that cannot be resolved, 503 where the ledger does not answer.
        """
        names = [self._rules.wanted(job) for job in jobs]
        resolver = self._rules.resolver
        if resolver is None or not (wanted := frozenset(name for name in names if name is not None)):
            return [self._rules.resolve(job) for job in jobs], [None] * len(jobs)
        found = await self._find.ask(wanted)
        pins = [resolver.pin(found[name]) if name in found else None for name in names]
        if len(jobs) <= _RENDERED_HERE:
            return [self._rules.resolve(job, name, found) for job, name in zip(jobs, names, strict=True)], pins

        def render() -> list[ResolvedJob]:
            until, resolved = time.monotonic() + _RENDERING_SECONDS, list[ResolvedJob]()
            for job, name in zip(jobs, names, strict=True):
                if time.monotonic() > until:
                    raise Refusal(
                        Why.BUSY,
                        f"the applications of these {len(jobs)} jobs took more than {_RENDERING_SECONDS:g} s to "
                        f"render, and {len(resolved)} are done: send fewer jobs in one request",
                        retry_after=_RENDERING_SECONDS,
                    )
                resolved.append(self._rules.resolve(job, name, found))
            return resolved

        return await self._renderings.run(jobs[0].tenant, render), pins

    async def _known(self, jobs: Sequence[Job]) -> list[str] | None:
        """Return the ids of these jobs if the ledger has all of them with this content, else None.

        A known job keeps the version of its application: it is not resolved again.
        """
        if any(job.idempotency_key is None for job in jobs):
            return None
        contents = [RecordContent(job.job_id(""), job.tenant, encode_given(job)) for job in jobs]
        return [content.job_id for content in contents] if await self._is_known.ask(contents) else None

    async def is_application(self, tenant: str, name: str) -> bool:
        """Return True if an application answers to this name, and no model. Raise 503 if the ledger does not answer."""
        wanted = self._rules.wanted(GenerationJob.model_construct(tenant=tenant, model=name))
        return wanted is not None and wanted in await self._find.ask(frozenset({wanted}))

    def _check(self, jobs: Sequence[ResolvedJob]) -> None:
        now = milliseconds(self._now())
        for job in jobs:
            self._rules.check(job, now)

    async def _examine(self, tenant: str, jobs: Sequence[ResolvedJob]) -> list[int | None]:
        """Examine on a thread the tenant's jobs that may have to be refused; return the tokens of the counted ones."""
        doubtful = {index: job for index, (job, _) in enumerate(jobs) if self._rules.is_doubtful(job)}
        tokens: list[int | None] = [None] * len(jobs)
        if doubtful:

            def examine() -> None:
                for index, job in doubtful.items():
                    tokens[index] = self._rules.examine_doubtful(job)

            await self.examinations.run(tenant, examine)
        return tokens

    async def _check_named(self, jobs: Sequence[ResolvedJob]) -> None:
        for check, lookup in self._lookups:
            named = named_by(check, jobs)
            if named and (missing := await lookup.ask(named)):
                raise check.missing(min(missing))

    def _place(self, letter: EncodedJob) -> tuple[str, int]:
        route = self._rules.route(letter.request.job_id, letter.resolved.job)
        return route.queue, INTERACTIVE if letter.resolved.job.lane is Lane.INTERACTIVE else BATCH

    async def _reserved(self, letters: Sequence[EncodedJob]) -> list[EncodedJob]:
        """Return the jobs that are to be sent. The id of a job without a key is unique."""
        wanted = [letter for letter in letters if self._is_reserved(letter)]
        if not wanted:
            return list(letters)
        answers = await self._reserve.ask([letter.request for letter in wanted])
        answer_of = {id(letter): answer for letter, answer in zip(wanted, answers, strict=True)}
        for letter in letters:
            if answer_of.get(id(letter)) is Reserved.OTHER:
                await self._withdraw([letter for letter in wanted if answer_of[id(letter)] is Reserved.SEND])
                raise Refusal(
                    Why.CONFLICT,
                    f"the idempotency key of job {letter.request.job_id} was used with other content: send another key",
                    should_retry=False,
                    job_id=letter.request.job_id,
                )
        return [letter for letter in letters if answer_of.get(id(letter)) is not Reserved.KNOWN]

    def _is_reserved(self, letter: EncodedJob) -> bool:
        """Return True if a job's row is written before the job is sent."""
        return letter.keyed or not self._durable

    async def _send(self, letters: Sequence[EncodedJob], began: float, paid: bool) -> None:
        if not letters:
            return
        # Under a key a second try is the same job; without one it would be a second job.
        keyed, free = [letter for letter in letters if letter.keyed], [letter for letter in letters if not letter.keyed]
        should_retry = False if free else None
        job_id = letters[0].request.job_id if len(letters) == 1 else None
        future = self._publish.put(_Sent(free, began)) if free and self._durable else None
        try:
            await self._sink.publish([letter.record for letter in letters])
        except Refusal as error:
            # A key keeps its content for as long as Kafka may have the job.
            await self._withdraw(letters if error.should_retry is None else free, future)
            if error.should_retry is None:
                if paid:
                    await self._quotas.release([letter.request for letter in letters])
                raise
            raise Refusal(
                error.why,
                f"{error}; the job may still be run",
                retry_after=error.retry_after,
                should_retry=should_retry,
                job_id=job_id,
            ) from error
        if not self._durable:
            await self._taken_in([letter.request.job_id for letter in letters], should_retry, job_id)
            return
        try:
            if future is not None:
                await self._publish.answer(future)
            if keyed:
                await self._publish.ask(_Sent(keyed, began))
        except LedgerOutage as error:
            raise LedgerOutage(
                f"{error}; Kafka has the job, and it will be run", should_retry=should_retry, job_id=job_id
            ) from error

    async def _withdraw(self, letters: Sequence[EncodedJob], found: "asyncio.Future[None] | None" = None) -> None:
        """Withdraw jobs that were not sent, or whose ids no client knows: clients find only accepted jobs, and a key
        may be used for other content.
        """
        if found is not None:
            with suppress(LedgerOutage):
                await self._publish.answer(found)
        if letters:
            with suppress(LedgerOutage):  # then their rows stay, although no client was told that they are accepted
                await self._forget.ask([letter.request.job_id for letter in letters])

    async def _taken_in(self, job_ids: Collection[str], should_retry: bool | None, job_id: str | None) -> None:
        taken = await self._waiter.taken(job_ids, self._timeouts.admitted)
        for letter in taken.values():
            if letter is not None:
                raise InvalidRecord(letter.reason)
        if len(taken) < len(set(job_ids)):
            raise LedgerOutage(
                "no bridge has taken the job in yet; it may still be run", should_retry=should_retry, job_id=job_id
            )


def _lookup(check: AdmissionCheck, executor: Executor, patience: float) -> Batcher[frozenset[Named], Collection[Named]]:
    """Return what asks the ledger for the resources of several requests at once."""

    def unknown(calls: list[frozenset[Named]]) -> list[Collection[Named]]:
        missing = frozenset(check.unknown(frozenset().union(*calls)))
        return [missing & call for call in calls]

    return Batcher(unknown, executor, patience=patience)


def _letter(
    job: Job,
    resolved: ResolvedJob,
    pin: str | None,
    tokens: int | None,
    at: datetime,
    traceparent: str | None,
    correlationid: str | None,
) -> EncodedJob:
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
        applicationversion=pin,
    )
    headers, value = encode(job, envelope, given=pin is not None)
    check_size(value)
    request = AdmissionRequest(job_id, job.tenant, value, digest_of(job, value))
    record = Record(topic_for(job), job_id.encode(), headers, value, job_id)
    return EncodedJob(request, resolved, tokens, record, job.idempotency_key is not None)


class Examinations:
    """Checks on threads of their own, so that calls of the ledger never wait for them. Belongs to the event loop.

    A check has to begin within `patience` seconds. A tenant has `at_a_time` of them at a time.
    """

    def __init__(self, patience: float, at_a_time: int = AT_A_TIME) -> None:
        self._threads = ThreadPoolExecutor(THREADS, "examine")
        self._slots = TenantSlots("checks", at_a_time)
        self._patience = patience

    async def run(self, tenant: str, check: Callable[[], T]) -> T:
        """Return what a check returns, and raise what it raises. Raise 429 where the tenant's other checks take so long
        that it cannot begin, and 503 where the machine is too busy for it.
        """
        loop = asyncio.get_running_loop()
        try:
            slot = await self._slots.wait(tenant, loop.time() + self._patience)
        except TimeoutError:
            raise Refusal(
                Why.BUSY,
                f"the tenant {tenant} has too many jobs under way here whose formats, tools or lengths are being "
                "checked: send fewer at a time, or repeat formats, which are checked once",
                retry_after=1.0,
            ) from None
        running = loop.run_in_executor(self._threads, check)
        # A check that nobody waits for any more still has its thread, and so keeps its tenant's place.
        running.add_done_callback(partial(_ended, slot))
        try:
            return await asyncio.shield(running)
        except Unavailable as error:
            raise Refusal(Why.MACHINE_BUSY, str(error), retry_after=1.0) from error


def _ended(slot: Slot, check: "asyncio.Future[T]") -> None:
    slot.release()
    if not check.cancelled():
        check.exception()  # looked at, so that asyncio does not log what a client that left would have been told
