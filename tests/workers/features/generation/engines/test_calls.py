"""One streamed call of a provider."""

import asyncio
from collections.abc import AsyncIterator

from tests.workers.features.generation.engines.remote_models import ask

from headrace_workers.core.ports import Completion, Request
from headrace_workers.features.generation.engines.remote.calls import Piece, answer
from headrace_workers.features.generation.models.catalogue import RemoteModel


class AtOnce:
    """A provider whose whole answer is there."""

    async def stream(self, _request: Request) -> AsyncIterator[Piece]:
        """Yield it."""
        yield Piece(text="Hi.", is_content=True, finish="stop", prompt_tokens=3, completion_tokens=2)

    async def close(self) -> None:
        """Do nothing."""


def test_a_whole_answer_is_kept_though_nobody_wants_it() -> None:
    """It says what the call used, which is charged in place of the most that it may have cost."""
    found = asyncio.run(answer(AtOnce(), RemoteModel(model="teacher"), ask("Hello", given_up=lambda: True), "far"))
    assert isinstance(found, Completion)
    assert (found.prompt_tokens, found.completion_tokens) == (3, 2)
