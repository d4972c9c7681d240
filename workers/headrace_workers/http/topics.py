"""Existence of the topics that jobs are sent to: somebody may have deleted them, or a broker forgot them."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from typing import Final

from headrace_schemas import Topic
from headrace_workers.http.batcher import Batcher
from headrace_workers.http.errors import KafkaOutage

_EVERY_SECONDS: Final = 5.0  # the embedded broker confirms records for a topic that was deleted
_AGAIN_SECONDS: Final = 1.0  # while some are missing, or nobody says so
_THREAD_SECONDS: Final = 1.0  # that a look may wait for a thread


class Topics:
    """The topics that were missing at the last look. Belongs to the event loop.

    `look` returns them, each with its name in Kafka; it raises Unavailable if no broker answers within `patience`
    seconds.
    """

    def __init__(self, look: Callable[[], Mapping[Topic, str]], executor: Executor, patience: float) -> None:
        def together(calls: list[None]) -> list[Mapping[Topic, str]]:
            return [look()] * len(calls)

        self._look: Batcher[None, Mapping[Topic, str]] = Batcher(
            together, executor, patience=patience + _THREAD_SECONDS, outage=KafkaOutage, service="Kafka"
        )
        self._missing: Mapping[Topic, str] = {}
        self._doubted = asyncio.Event()
        self._heard = False  # since the last look began
        self.silent = True  # no broker says which there are: none has yet, or it did not when it was asked last

    def missing_words(self, wanted: Collection[Topic] = tuple(Topic)) -> str | None:
        """Return what to do if some of these are missing."""
        names = [name for topic, name in self._missing.items() if topic in wanted]
        if not names:
            return None
        subject = f"the topic {names[0]} is" if len(names) == 1 else f"the topics {', '.join(names)} are"
        return f"{subject} not there: run `headrace init` (or the gateway's user of Kafka may not see what is there)"

    async def look(self) -> None:
        """Look now. A broker that does not answer changes nothing of what is known of them. Where it answered others
        meanwhile, it was this process that had no time.
        """
        self._heard = False
        try:
            self._missing = await self._look.ask(None)
            self.silent = False
        except KafkaOutage:
            self.silent = not self._heard

    def doubt(self) -> None:
        """Note that a broker did not answer somebody else: it counts as away until it answers, and is asked at once."""
        self.silent = True
        self._doubted.set()

    def heard(self) -> None:
        """Note that a broker has answered somebody else."""
        self._heard, self.silent = True, False

    async def watch(self) -> None:
        """Look again and again, until this is cancelled."""
        while True:
            self._doubted.clear()
            await self.look()
            with suppress(TimeoutError):
                seconds = _AGAIN_SECONDS if self._missing or self.silent else _EVERY_SECONDS
                await asyncio.wait_for(self._doubted.wait(), seconds)
