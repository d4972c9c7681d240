"""Time limits of a gateway for the services that it needs."""

import asyncio
from dataclasses import dataclass
from typing import Any, Final

LATE: Final = 0.1  # seconds; an alarm that comes so late says that this process was busy, or was stopped


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeouts:
    """Seconds that a gateway waits for each service before it goes on without an answer. All but `redis` end in a
    refusal of the request.
    """

    ledger: float = 3.0  # that a request waits for one answer of the ledger
    redis: float = 0.25  # that Redis has to count a request; then this gateway counts by itself for a while
    admitted: float = 30.0  # until ingest has a job, where only the ledger counts
    begun: float = 10.0  # until a check of a request has to begin
    topics: float = 2.0  # that a broker has to say which topics it has
    room: float = 1.0  # that the producer waits for a connection, and for room in its buffer
    silence: float = 2.0  # a record that waits for so long shows that Kafka is away: others fail at once
    confirmed: float = 5.0  # a record that is not confirmed by then has failed


async def is_done_within(seconds: float, work: "asyncio.Future[Any]") -> bool:
    """Return True if this is done within so many seconds. If this process could not look in time, it looks once more,
    after as long: whoever does the work may have been stopped, too.
    """
    loop = asyncio.get_running_loop()
    due = loop.time() + seconds
    await asyncio.wait({work}, timeout=seconds)
    if not work.done() and (late := loop.time() - due) > LATE:
        await asyncio.wait({work}, timeout=late)
    return work.done()
