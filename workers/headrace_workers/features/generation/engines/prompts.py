"""The tokens of messages, by a model's own chat template and tokenizer, and the room that its context leaves.

It loads no weights, so that the bridge counts with it what a worker will run.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

from tokenizers import Tokenizer

from headrace_schemas import HeadraceError, Message
from headrace_schemas.errors import PromptTooLong
from headrace_schemas.tool import NO_TOOLS, Offer, Tool
from headrace_workers.features.generation.engines.chat_template import (
    ChatTemplate,
    InvalidTemplate,
    caller_texts,
    load_chat_template,
    too_many_characters,
)
from headrace_workers.features.generation.engines.prefixes import common
from headrace_workers.features.generation.models.added_tokens import AddedTokens, cut
from headrace_workers.features.generation.models.broken_model import broken_model
from headrace_workers.features.generation.models.registry import ModelCard
from headrace_workers.features.generation.structured.tools import OPEN, Dialect
from headrace_workers.features.generation.structured.tools_in_prompt import in_words

_READ_FIRST: Final = 8_192  # characters: 5 ms at most
_CUT_DOUBT: Final = 100  # one token of so many may be there only because the text was cut within a word
_HIDDEN: Final = 16  # times as long as it is: no text is longer when its added tokens are hidden


@dataclass(frozen=True, slots=True)
class _Written:
    """A rendered prompt, and the tokenizer that takes nothing in it for an added token but what the template wrote."""

    text: str
    tokenizer: Tokenizer

    def ids(self, read: int | None = None) -> list[int]:
        """Return the tokens of all, or of the first `read` characters."""
        text = self.text if read is None else cut(self.text, read)
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids


class Prompts:
    """One model's way from messages to tokens. Thread-safe."""

    def __init__(self, card: ModelCard, tokenizer: Tokenizer, template: ChatTemplate) -> None:
        self.tokenizer = tokenizer
        self._card = card
        self._template = template
        self._added = AddedTokens(tokenizer)
        # No prompt that fits has more characters than this: what is longer need not be tokenized to be refused.
        self._max_chars = card.context_length * max(map(len, tokenizer.get_vocab()), default=1)

    @classmethod
    def load(cls, folder: Path, card: ModelCard) -> Self:
        """Read tokenizer and template from the model's folder; ConfigurationError when they cannot be used."""
        try:
            tokenizer = Tokenizer.from_file(str(folder / "tokenizer.json"))
        except Exception as error:  # the library raises bare Exception for files that it refuses
            raise broken_model(f"{folder / 'tokenizer.json'} cannot be loaded: {error}") from error
        return cls(card, tokenizer, load_chat_template(folder))

    def text_ids(self, text: str) -> list[int]:
        """Return the tokens of a text that stands alone, outside the template."""
        return self._added.ids(text)

    def narrowed(self, offer: Offer) -> Offer:
        """Return what this model is offered: a model that was not trained to call tools calls one, since it would not
        stop.
        """
        return offer if self._template.dialect is Dialect.HERMES else offer._replace(most=1)

    def dialect(self, offer: Offer) -> Dialect:
        """Return how the model writes calls of these tools: in tags where a bare call could be an answer."""
        dialect = self._template.dialect if self._writes_calls(offer) or not offer.beside_format else Dialect.HERMES
        has_tags = self.tokenizer.token_to_id(OPEN) is not None
        return Dialect.HERMES_TOKENS if dialect is Dialect.HERMES and has_tags else dialect

    def encode(self, messages: Sequence[Message], offer: Offer = NO_TOOLS) -> list[str] | HeadraceError:
        """Return the prompt's tokens, which leave room for at least one more, or an error that says why it cannot run.

        The model's template writes the offered tools, or words that describe them do.
        PromptTooLong names the counts and the bound, InvalidTemplate what the template objects to.
        """
        written = self._render(messages, offer)
        if isinstance(written, HeadraceError):
            return written
        tokens = [str(self.tokenizer.id_to_token(number)) for number in written.ids()]
        if not tokens:
            return self._nothing()
        return tokens if self.room(len(tokens)) >= 1 else self._too_long(f"{len(tokens)} tokens")

    def beginning(self, system: Sequence[Message], offer: Offer = NO_TOOLS) -> tuple[str, ...]:
        """Return the tokens that every conversation with this system prompt and these tools begins with.

        Return none where the template writes the system prompt elsewhere, or refuses these messages.
        """
        one, other = (self.encode([*system, Message(role="user", content=said)], offer) for said in ("A", "7"))
        if isinstance(one, HeadraceError) or isinstance(other, HeadraceError):
            return ()
        return common(one, other)

    def count(self, messages: Sequence[Message], offer: Offer = NO_TOOLS) -> int | HeadraceError:
        """Return the number of tokens that `encode` gives, or its error, at less cost.

        Of a long prompt that surely fits, the number is estimated from its beginning; one that surely does not fit is
        not read to its end.
        """
        written = self._render(messages, offer)
        if isinstance(written, HeadraceError):
            return written
        text = written.text
        read = _READ_FIRST
        while True:
            tokens = len(written.ids(read))
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

    def _render(self, messages: Sequence[Message], offer: Offer) -> _Written | HeadraceError:
        offer = self.narrowed(offer)
        try:
            if self._writes_calls(offer):
                written = self._written(messages, offer.tools)
            else:
                written = self._written(in_words(messages, offer), ())
        except (PromptTooLong, InvalidTemplate) as error:
            return error
        except RecursionError:
            return InvalidTemplate("the tools are nested too deep for a prompt")
        return written if written.text else self._nothing()

    def _writes_calls(self, offer: Offer) -> bool:
        """Return True if the template writes these tools, and its model a call of them, as an answer may have them."""
        dialect = self._template.dialect
        return self._template.knows_tools and not (offer.beside_format and dialect is Dialect.LLAMA)

    def _written(self, messages: Sequence[Message], tools: Sequence[Tool]) -> _Written:
        if not self._added.may_come_from(caller_texts(messages, tools)):
            return _Written(self._template.render(messages, tools, max_chars=self._max_chars), self.tokenizer)
        hidden = self._template.render(messages, tools, max_chars=_HIDDEN * self._max_chars, said=self._added.said)
        text = self._added.named(hidden)
        if len(text) > self._max_chars:
            raise too_many_characters(self._max_chars)
        return _Written(text, self._added.plain)

    def _nothing(self) -> InvalidTemplate:
        return InvalidTemplate(f"the chat template of {self._card.alias} makes nothing of these messages")

    def _too_long(self, size: str) -> PromptTooLong:
        return PromptTooLong(
            f"the prompt has {size}, and the context of {self._card.alias} holds {self._card.context_length} "
            "with the answer: shorten the messages or choose another model"
        )

    def room(self, tokens: int) -> int:
        """Return how many tokens an answer to a prompt of so many may have."""
        return self._card.context_length - tokens
