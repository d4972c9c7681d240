"""A generator without a model: it repeats what it was asked. For tests, and for measuring everything but the model.

Two words in a user's message make it misbehave, for tests of faults: `%%crash%%` kills the process with SIGKILL, as
the kernel does when memory runs out; `%%sleep:2.5%%` holds the call for so many seconds, or until it is given up.
"""

import os
import re
import signal
import time
import zlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

from headrace_schemas import HeadraceError, Message
from headrace_schemas.errors import PromptTooLong
from headrace_workers.core.machine import available_cores
from headrace_workers.core.private_files import private_folder
from headrace_workers.models.engines.engine import Engine, LoadOptions
from headrace_workers.models.engines.stopping import cut_at_stop
from headrace_workers.models.generator import (
    Completion,
    GivenUp,
    LabelRequest,
    LabelScores,
    Request,
    never,
)
from headrace_workers.models.registry import ModelCard, model_dir, write_card

CONTEXT_LENGTH: Final = 32_768
LABEL_MASS: Final = 0.9  # what all labels together get; the rest stands for the rest of a vocabulary

_CRASH: Final = "%%crash%%"
_LOOK_EVERY: Final = 0.25  # seconds
_SLEEP: Final = re.compile(r"%%sleep:(\d+(?:\.\d+)?)%%")


class EchoGenerator:
    """Answers with the words of the last user message, at most `max_tokens` of them. A word counts as a token."""

    def __init__(
        self,
        alias: str = "echo",
        *,
        context_length: int = CONTEXT_LENGTH,
        sleep: Callable[[float], None] = time.sleep,
    ) -> None:
        self._alias = alias
        self._context_length = context_length
        self._sleep = sleep

    @property
    def alias(self) -> str:
        """The name that jobs ask for it by."""
        return self._alias

    @property
    def quantization(self) -> str:
        """There are no numbers in it."""
        return "none"

    @property
    def context_length(self) -> int:
        """Prompt and answer together, in words."""
        return self._context_length

    @property
    def parallel(self) -> int:
        """Return the number of cores: this engine computes nothing."""
        return available_cores()

    @property
    def urgent(self) -> "EchoGenerator":
        """The same: nothing waits here."""
        return self

    def generate(self, requests: Sequence[Request]) -> list[Completion | HeadraceError]:
        """Echo all; only a prompt that leaves no room for one word is refused."""
        return [self._answer(request) for request in requests]

    def label_probabilities(self, requests: Sequence[LabelRequest]) -> list[LabelScores | HeadraceError]:
        """Return probabilities that depend on the last message and the labels alone, and sum to LABEL_MASS."""
        for request in requests:
            if len(set(request.labels)) < len(request.labels):
                raise ValueError(f"two of the labels {list(request.labels)} are the same")
        return [self._weigh(request) for request in requests]

    def _answer(self, request: Request) -> Completion | HeadraceError:
        asked = _last_user_text(request.messages)
        if "%%" in asked:
            self._misbehave(asked, request.given_up)
        if request.given_up():
            return GivenUp()
        words = asked.split()
        prompt_tokens = len(words) if len(request.messages) == 1 else _count_words(request.messages)
        room = self._context_length - prompt_tokens
        if room < 1:
            return PromptTooLong(
                f"the prompt has {prompt_tokens} tokens, and {self._alias} holds {self._context_length} with the answer"
            )
        limit = min(request.sampling.max_tokens, room)
        text, stopped = cut_at_stop(" ".join(words[:limit]), request.sampling.stop)
        ended = stopped or len(words) <= limit
        written = len(text.split()) if stopped else min(len(words), limit)
        return Completion(text, "stop" if ended else "length", prompt_tokens, written)

    def _weigh(self, request: LabelRequest) -> LabelScores | HeadraceError:
        if (prompt_tokens := _count_words(request.messages)) >= self._context_length:
            return PromptTooLong(
                f"the prompt has {prompt_tokens} tokens, and {self._alias} holds {self._context_length}"
            )
        asked = _last_user_text(request.messages)
        if "%%" in asked:
            self._misbehave(asked, request.given_up)
        if request.given_up():
            return GivenUp()
        weights = [1 + zlib.crc32(f"{label}\n{asked}".encode()) for label in request.labels]
        masses = tuple(LABEL_MASS * weight / sum(weights) for weight in weights)
        return LabelScores(masses, prompt_tokens, sum(len(label.split()) for label in request.labels))

    def _misbehave(self, asked: str, given_up: Callable[[], bool] = never) -> None:
        if _CRASH in asked:
            os.kill(os.getpid(), signal.SIGKILL)
        if match := _SLEEP.search(asked):
            left = float(match.group(1))
            while left > 0 and not given_up():
                self._sleep(min(left, _LOOK_EVERY))
                left -= _LOOK_EVERY


def _load(card: ModelCard, _folder: Path, _options: LoadOptions) -> EchoGenerator:
    return EchoGenerator(card.alias, context_length=card.context_length)


ENGINE: Final[Engine[EchoGenerator, None]] = Engine(name="echo", kind="generator", load=_load, logprobs=True)


def make_echo_model(home: Path, alias: str = "echo") -> Path:
    """Write a model folder whose engine is the echo; gives the folder back."""
    folder = model_dir(home, alias)
    private_folder(folder)
    card = ModelCard(
        alias=alias,
        engine=ENGINE.name,
        source="headrace_workers.models.engines.echo",
        licence="Apache-2.0",
        sha256="",
        quantization="none",
        size_bytes=0,
        context_length=CONTEXT_LENGTH,
    )
    write_card(folder, card)
    return folder


def _last_user_text(messages: Sequence[Message]) -> str:
    return next((message.content for message in reversed(messages) if message.role == "user"), "")


def _count_words(messages: Sequence[Message]) -> int:
    return sum(len(message.content.split()) for message in messages)
