"""The ends of jobs, for all requests of this process that wait for some: one look into the ledger for all of them.

It looks when the notifier rings (runtime/wire/hints.py), and once a second by itself: a lost hint costs a second.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from dataclasses import dataclass, field
from typing import TypeVar

from headrace_schemas import DeadLetter, JobCancelled, Result
from headrace_schemas.codec import decode_value, encode_value
from headrace_schemas.errors import Unavailable
from headrace_schemas.event_types import type_of
from headrace_workers.core.ledger.job_status import Looked, Standing
from headrace_workers.core.outage import awaited
from headrace_workers.core.progress import Loop

End = Result | DeadLetter | JobCancelled
Told = tuple[str, bytes]  # a terminal event: its type and its JSON

REST = 1.0  # seconds without a hint
_GATHER = 0.005  # hints that come together cost one look; the next comes no sooner than the last one took
_LONGEST_GATHER = 0.1
_EAGER = 0.02  # while somebody waits until a job is taken in, of which no hint tells

Look = Callable[[Collection[str], Collection[str], Collection[str]], Looked]
T = TypeVar("T")


@dataclass(slots=True)
class _Awaited:
    """A job that somebody waits for."""

    known: bool = False  # to be in the ledger
    ends: list[asyncio.Future[Told | None]] = field(default_factory=list)
    stands: list[asyncio.Future[Standing | None]] = field(default_factory=list)
    taken: list[asyncio.Future[DeadLetter | None]] = field(default_factory=list)


class Waiter:
    """The wait for ends of jobs. Belongs to the event loop; `rang` may be called from any thread.

    `look` asks the ledger, on a thread. `loop` is where it reports its progress.
    """

    def __init__(self, look: Look, executor: Executor, loop: Loop) -> None:
        self._look = look
        self._executor = executor
        self._progress = loop
        self._jobs: dict[str, _Awaited] = {}
        self._rung = asyncio.Event()
        self.stopping = False  # no new wait may begin
        self._over = False
        self._turn: asyncio.Future[None] | None = None
        self._task: asyncio.Task[None] | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self.trouble: str | None = None  # why the last look failed, if it did

    @property
    def waiting(self) -> int:
        """The number of jobs that are waited for."""
        return len(self._jobs)

    def start(self) -> None:
        """Begin to follow."""
        self._loop = asyncio.get_running_loop()
        self._task = self._loop.create_task(self._follow())

    def drain(self, grace: float) -> None:
        """Begin no further wait. Give present waits so many seconds, and then end them with what there is."""
        self.stopping = True
        self._rung.set()
        if self._loop is not None:
            self._loop.call_later(grace, self._give_up)

    async def stop(self) -> None:
        """Follow no more."""
        self.stopping = True
        self._give_up()
        if self._task is not None:
            await self._task

    def _give_up(self) -> None:
        self._over = True
        for job in self._jobs.values():
            _resolve(job.ends, None)
            _resolve(job.stands, None)
            _resolve(job.taken, None)
        self._rung.set()

    def rang(self) -> None:
        """Note that something has changed somewhere. Thread-safe."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._rung.set)

    async def ends(self, job_ids: Collection[str], seconds: float) -> dict[str, End]:
        """Return the ends of the jobs that end within so many seconds: result, cancellation or dead letter.

        A dead letter may be of a job that was refused at admission. Fewer ends come while the gateway is stopping.
        """
        ends = await self.ended(job_ids, seconds)
        return {job_id: end_of(*event) for job_id, event in ends.items()}

    async def ended(self, job_ids: Collection[str], seconds: float) -> dict[str, Told]:
        """Return the ends as `ends` does, as they stand in the ledger: type and JSON."""
        if self.stopping:
            return {}
        return await self._answers(job_ids, seconds, lambda job: job.ends)

    async def stands(self, job_ids: Collection[str], seconds: float) -> dict[str, Standing]:
        """Return the rows of the jobs that end within so many seconds, as each was first seen complete."""
        if self.stopping:
            return {}
        return await self._answers(job_ids, seconds, lambda job: job.stands)

    async def taken(self, job_ids: Collection[str], seconds: float) -> dict[str, DeadLetter | None]:
        """Return the jobs that the ledger accepts within so many seconds, with None, and the refused ones, with the
        letter.
        """
        done = await self._done(job_ids, seconds, lambda job: job.taken)
        return {} if self._over else done

    async def _answers(
        self, job_ids: Collection[str], seconds: float, of: "Callable[[_Awaited], list[asyncio.Future[T | None]]]"
    ) -> dict[str, T]:
        done = await self._done(job_ids, seconds, of)
        return {job_id: answer for job_id, answer in done.items() if answer is not None}

    async def _done(
        self, job_ids: Collection[str], seconds: float, of: "Callable[[_Awaited], list[asyncio.Future[T]]]"
    ) -> dict[str, T]:
        """Return what is reported of these jobs within so many seconds; `of` says where the reporter looks."""
        if not job_ids:
            return {}
        loop = asyncio.get_running_loop()
        futures: dict[str, asyncio.Future[T]] = {job_id: loop.create_future() for job_id in job_ids}
        for job_id, future in futures.items():
            of(self._jobs.setdefault(job_id, _Awaited())).append(future)
        self._rung.set()  # it may be so already
        try:
            async with asyncio.timeout(seconds):
                for future in futures.values():
                    await future
        except TimeoutError:
            pass  # the one that was waited for is cancelled
        finally:
            for job_id, future in futures.items():
                of(self._jobs[job_id]).remove(future)
                self._forget(job_id)
        return {job_id: item.result() for job_id, item in futures.items() if item.done() and not item.cancelled()}

    async def turn(self, seconds: float = REST) -> None:
        """Wait until something may have changed: for who looks himself, such as a stream of events."""
        if self.stopping:
            return
        if self._turn is None or self._turn.done():
            self._turn = asyncio.get_running_loop().create_future()
        await asyncio.wait({self._turn}, timeout=seconds)

    def _forget(self, job_id: str) -> None:
        job = self._jobs[job_id]
        if not (job.ends or job.stands or job.taken):
            del self._jobs[job_id]

    async def _follow(self) -> None:
        while not self._over:
            eager = any(job.taken for job in self._jobs.values())
            try:
                async with asyncio.timeout(_EAGER if eager else REST):
                    await self._rung.wait()
            except TimeoutError:
                pass
            self._rung.clear()
            if self._turn is not None and not self._turn.done():
                self._turn.set_result(None)
            began = time.monotonic()
            await self._once()
            await asyncio.sleep(min(_LONGEST_GATHER, max(_GATHER, time.monotonic() - began)))
        self._progress.end()

    async def _once(self) -> None:
        known = [job_id for job_id, job in self._jobs.items() if job.known]
        unknown = [job_id for job_id, job in self._jobs.items() if not job.known]
        whole = [job_id for job_id, job in self._jobs.items() if job.stands]
        try:
            loop = asyncio.get_running_loop()
            looked = await loop.run_in_executor(self._executor, self._look, known, unknown, whole)
        except Unavailable as error:
            self.trouble = str(error)
            self._progress.beat(awaited(error))
            return
        self.trouble = None
        self._progress.beat()
        self._tell(looked)

    def _tell(self, looked: Looked) -> None:
        refused = looked.refused
        for job_id in looked.known:
            if job := self._jobs.get(job_id):
                job.known = True
                _resolve(job.taken, None)
        for job_id, standing in looked.standings.items():
            if job := self._jobs.get(job_id):
                _resolve(job.stands, standing)
        ends: Mapping[str, Told] = {
            **looked.ended,
            **{job_id: (type_of(letter), encode_value(letter)) for job_id, letter in refused.items()},
        }
        for job_id, end in ends.items():
            if job := self._jobs.get(job_id):
                _resolve(job.ends, end)
                _resolve(job.taken, refused.get(job_id))


def end_of(event_type: str, value: bytes) -> End:
    """Return a terminal event as a value. Raise InvalidRecord if it is none."""
    event = decode_value(event_type, value)
    assert isinstance(event, End)  # noqa: S101 - the ledger ends jobs with nothing else
    return event


def _resolve(futures: "list[asyncio.Future[T]]", value: T) -> None:
    for future in futures:
        if not future.done():
            future.set_result(value)
