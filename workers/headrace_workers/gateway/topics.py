"""Whether the topics that jobs are sent to are there: somebody may have deleted them, or a broker forgot them."""

import asyncio
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import Executor
from contextlib import suppress
from typing import Final

from headrace_schemas import Topic
from headrace_workers.gateway.errors import KafkaAway
from headrace_workers.gateway.together import Together

LOOK_SECONDS: Final = 2.0  # that a broker has to say which topics it has
_EVERY_SECONDS: Final = 5.0  # the embedded broker confirms records for a topic that was deleted
_AGAIN_SECONDS: Final = 1.0  # while some are missing


class Topics:
    """Those that are missing, as was last seen. Belongs to the event loop.

    `look` says which are, each with its name in Kafka; it raises Unavailable where no broker answers.
    """

    def __init__(self, look: Callable[[], Mapping[Topic, str]], executor: Executor) -> None:
        def together(asked: list[None]) -> list[Mapping[Topic, str]]:
            return [look()] * len(asked)

        self._look: Together[None, Mapping[Topic, str]] = Together(together, executor, away=KafkaAway)
        self._missing: Mapping[Topic, str] = {}

    def missing_words(self, wanted: Collection[Topic] = tuple(Topic)) -> str | None:
        """What to do where some of these are missing."""
        names = [name for topic, name in self._missing.items() if topic in wanted]
        if not names:
            return None
        said = f"the topic {names[0]} is" if len(names) == 1 else f"the topics {', '.join(names)} are"
        return f"{said} not there: run `headrace init` (or the gateway's user of Kafka may not see what is there)"

    async def look(self) -> None:
        """Look now. A broker that does not answer changes nothing of what is known."""
        with suppress(KafkaAway):
            self._missing = await self._look.ask(None)

    async def watch(self) -> None:
        """Look again and again, until this is cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(_AGAIN_SECONDS if self._missing else _EVERY_SECONDS)
