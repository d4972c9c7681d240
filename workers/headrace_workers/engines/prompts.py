"""From messages to a model's tokens: its own chat template and tokenizer, and the room that its context leaves.

It loads no weights, so that the bridge counts with it what a worker will run.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Self

from tokenizers import Tokenizer

from headrace_schemas import HeadraceError, Message
from headrace_schemas.errors import ConfigurationError, PromptTooLong
from headrace_workers.engines.chat_template import ChatTemplate, InvalidTemplate, load_chat_template
from headrace_workers.models.registry import ModelCard


class Prompts:
    """One model's way from messages to tokens. Thread-safe."""

    def __init__(self, card: ModelCard, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self.tokenizer = tokenizer
        self._card = card
        self._template = template
        # No prompt that fits has more characters than this: what is longer need not be tokenized to be refused.
        self._max_chars = card.context_length * max(map(len, tokenizer.get_vocab()), default=1)

    @classmethod
    def load(cls, folder: Path, card: ModelCard) -> Self:
        """Read tokenizer and template from the model's folder; ConfigurationError when they cannot be used."""
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises bare Exception for files that it refuses
            raise ConfigurationError(
                f"{folder / 'tokenizer.json'} cannot be loaded: {error}; pull or convert the model again"
            ) from error
        return cls(card, tokenizer, load_chat_template(folder))

    def encode(self, messages: Sequence[Message]) -> list[str] | HeadraceError:
        """The prompt's tokens, so many that at least one more fits the context; else why these messages cannot run.

        PromptTooLong names the counts and the bound, InvalidTemplate what the template objects to.
        """
        try:
            text = self._template.render(messages, max_chars=self._max_chars)
        except (PromptTooLong, InvalidTemplate) as error:
            return error
        tokens: list[str] = self.tokenizer.encode(text, add_special_tokens=False).tokens
        if not tokens:
            return InvalidTemplate(f"the chat template of {self._card.alias} makes nothing of these messages")
        if self.room(len(tokens)) < 1:
            return PromptTooLong(
                f"the prompt has {len(tokens)} tokens, and the context of {self._card.alias} holds "
                f"{self._card.context_length} with the answer: shorten the messages or choose another model"
            )
        return tokens

    def room(self, tokens: int) -> int:
        """How many tokens an answer to a prompt of so many may have."""
        return self._card.context_length - tokens
