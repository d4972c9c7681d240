"""An engine in one file: it repeats the last message in capitals, and counts characters as tokens."""

from pathlib import Path

from headrace_schemas import HeadraceError, Message
from headrace_workers.models.engines.engine import Engine, LoadOptions
from headrace_workers.models.generator import Completion, LabelRequest, LabelScores, Request
from headrace_workers.models.registry import ModelCard


class Shouting:
    """A model on another machine, as far as headrace sees it: nothing is loaded, and it gives no probabilities."""

    quantization = "none"
    parallel = 1

    def __init__(self, card: ModelCard) -> None:
        self.alias = card.alias
        self.context_length = card.context_length

    @property
    def urgent(self) -> "Shouting":
        """Return itself: nothing waits here."""
        return self

    def generate(self, requests: list[Request]) -> list[Completion | HeadraceError]:
        said = [request.messages[-1].content for request in requests]
        return [Completion(text.upper(), "stop", len(text), len(text)) for text in said]

    def label_probabilities(self, _requests: list[LabelRequest]) -> list[LabelScores | HeadraceError]:
        """Raise ValueError, as the port says."""
        raise ValueError("this engine gives no probabilities")


class Characters:
    """Counts a token for each character."""

    def count(self, messages: list[Message], tools: object = ()) -> int:
        """Return how many tokens a conversation has."""
        return sum(len(message.content) for message in messages)

    def text_ids(self, text: str) -> list[int]:
        """Return a token for each character."""
        return [ord(character) for character in text]


def _load(card: ModelCard, _folder: Path, _options: LoadOptions) -> Shouting:
    return Shouting(card)


def _counter(_card: ModelCard, _folder: Path) -> Characters:
    return Characters()


ENGINE = Engine(name="shouting", kind="generator", load=_load, counter=_counter)
