"""From messages to a model's tokens: its own chat template and tokenizer, and the room that its context leaves.

It loads no weights, so that the bridge counts with it what a worker will run.
"""

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Final, Self

from tokenizers import Tokenizer

from headrace_schemas import HeadraceError, Message
from headrace_schemas.errors import ConfigurationError, PromptTooLong
from headrace_workers.engines.chat_template import ChatTemplate, InvalidTemplate, load_chat_template
from headrace_workers.engines.prefixes import common
from headrace_workers.models.registry import ModelCard

_READ_FIRST: Final = 8_192  # characters: 5 ms at most
_CUT_DOUBT: Final = 100  # one token of so many may be there only because the text was cut within a word


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

    @cached_property
    def special(self) -> tuple[str, ...]:
        """The tokens that are no text to this model: a text that holds one must not bring it in."""
        return tuple(token.content for token in self.tokenizer.get_added_tokens_decoder().values() if token.special)

    def encode(self, messages: Sequence[Message]) -> list[str] | HeadraceError:
        """The prompt's tokens, so many that at least one more fits the context; else why these messages cannot run.

        PromptTooLong names the counts and the bound, InvalidTemplate what the template objects to.
        """
        text = self._render(messages)
        if isinstance(text, HeadraceError):
            return text
        tokens: list[str] = self.tokenizer.encode(text, add_special_tokens=False).tokens
        if not tokens:
            return self._nothing()
        return tokens if self.room(len(tokens)) >= 1 else self._too_long(f"{len(tokens)} tokens")

    def beginning(self, system: Sequence[Message]) -> tuple[str, ...]:
        """The tokens that every conversation with this system prompt begins with: what two that go on differently have
        in common. Nothing where the template writes it elsewhere, or refuses these.
        """
        one, other = (self.encode([*system, Message(role="user", content=said)]) for said in ("A", "7"))
        if isinstance(one, HeadraceError) or isinstance(other, HeadraceError):
            return ()
        return common(one, other)

    def count(self, messages: Sequence[Message]) -> int | HeadraceError:
        """How many tokens `encode` gives, or its error, at less cost: of a long prompt that surely fits the number is
        told from its beginning, and one that surely does not is not read to its end.
        """
        text = self._render(messages)
        if isinstance(text, HeadraceError):
            return text
        read = _READ_FIRST
        while True:
            tokens = len(self.tokenizer.encode(text[:read], add_special_tokens=False))
            if read >= len(text) and not tokens:
                return self._nothing()
            if read >= len(text):
                return tokens if self.room(tokens) >= 1 else self._too_long(f"{tokens} tokens")
            if self.room(tokens - tokens // _CUT_DOUBT) < 1:
                return self._too_long(f"{tokens} tokens in the first {read} of its {len(text)} characters")
            about = tokens * len(text) // read
            if tokens and about <= self._card.context_length // 2:
                return about
            read *= 4

    def _render(self, messages: Sequence[Message]) -> str | HeadraceError:
        try:
            text = self._template.render(messages, max_chars=self._max_chars)
        except (PromptTooLong, InvalidTemplate) as error:
            return error
        return text or self._nothing()

    def _nothing(self) -> InvalidTemplate:
        return InvalidTemplate(f"the chat template of {self._card.alias} makes nothing of these messages")

    def _too_long(self, size: str) -> PromptTooLong:
        return PromptTooLong(
            f"the prompt has {size}, and the context of {self._card.alias} holds {self._card.context_length} "
            "with the answer: shorten the messages or choose another model"
        )

    def room(self, tokens: int) -> int:
        """How many tokens an answer to a prompt of so many may have."""
        return self._card.context_length - tokens
