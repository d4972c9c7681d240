"""Prompts: messages rendered by a model's own chat template, their tokens, and the room that its context leaves.

A template comes with the model, so it is code from strangers: it runs in Jinja2's immutable sandbox, reaches no
attribute that it should not, and what it writes is bounded. No weights are loaded, so that the bridge counts what a
worker will run.
"""

import json
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, Final, NoReturn, Self

from jinja2 import Environment, Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment
from tokenizers import Tokenizer

from headrace_schemas import HeadraceError, Message
from headrace_schemas.errors import ConfigurationError, PromptTooLong
from headrace_schemas.tool import NO_TOOLS, Offer, Tool
from headrace_workers.models.added_tokens import AddedTokens, as_one_text, cut
from headrace_workers.models.engines.prefixes import common
from headrace_workers.models.registry import ModelCard, broken_model
from headrace_workers.models.structured.tools import OPEN, Dialect, described, in_words

MAX_RENDERED = 4_000_000  # characters; no context of today's models holds so much

_READ_FIRST: Final = 8_192  # characters: 5 ms at most
_CUT_DOUBT: Final = 100  # one token of so many may be there only because the text was cut within a word
_ROLES: Final = ("user", "assistant", "user")
_TURNS: Final = ("A", "Q7Q7Q", "B")  # no template has the second in it
_HIDDEN: Final = 16  # times as long as it is: no text is longer when its added tokens are hidden


class InvalidTemplate(HeadraceError):
    """The model's chat template refuses these messages, or cannot be rendered."""


class ChatTemplate:
    """Renders messages into the text that the model was trained on. Thread-safe."""

    def __init__(self, source: str, *, bos: str = "", eos: str = "") -> None:
        self._template = _compile(source)
        self.dialect = _dialect(source)
        self._tokens = {"bos_token": bos, "eos_token": eos}

    @property
    def knows_tools(self) -> bool:
        """Return True if it takes tools, and its model is known to write calls in a dialect of its own."""
        return self.dialect is not Dialect.JSON

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[Tool] = (),
        *,
        max_chars: int = MAX_RENDERED,
        said: Callable[[str], str] = str,
    ) -> str:
        """Return the prompt, ready for the assistant's turn. The template gets each text of a caller as `said`: the
        contents of messages, the arguments of calls, and all that describes the tools.

        Raises PromptTooLong above `max_chars`, InvalidTemplate on refusal.
        """
        parts: list[str] = []
        size = 0
        try:
            names = {call.id: call.name for message in messages for call in message.tool_calls}
            given = {
                "messages": [_as_turn(message, names, said) for message in messages],
                "tools": [_said_in(described(tool), said) for tool in tools] or None,
                "enable_thinking": False,  # Qwen 3 and others would write their thoughts into the answer
            }
            for part in self._template.generate(**given, add_generation_prompt=True, **self._tokens):
                size += len(part)
                if size > max_chars:
                    raise too_many_characters(max_chars)
                parts.append(part)
        except HeadraceError:
            raise
        except Exception as error:  # whatever a stranger's code may raise: it fails for these messages each time
            raise InvalidTemplate(f"the model's chat template refuses these messages: {error}") from error
        return "".join(parts)


def caller_texts(messages: Sequence[Message], tools: Sequence[Tool] = ()) -> Iterator[str]:
    """Yield each text that a template writes for a caller, as it is and as it stands in JSON."""
    for message in messages:
        yield message.content
        yield message.name or ""
    nested = [call for message in messages for call in message.tool_calls]
    for value in (*map(described, tools), *([call.id, call.name, _arguments(call.arguments)] for call in nested)):
        for text in _leaves(value):
            yield text
            yield json.dumps(text, ensure_ascii=False)[1:-1]


def load_chat_template(folder: Path) -> ChatTemplate:
    """Return the template of a model folder: `chat_template.jinja`, else the entry in `tokenizer_config.json`.

    Of several named templates the one called "default" counts. ConfigurationError when there is none.
    """
    config = read_tokenizer_config(folder)
    beside = folder / "chat_template.jinja"
    source = beside.read_text(encoding="utf-8") if beside.is_file() else config.get("chat_template")
    if isinstance(source, list):
        source = next((entry["template"] for entry in source if entry["name"] == "default"), None)
    if not isinstance(source, str):
        raise ConfigurationError(
            f"{folder} has no chat template: serve an instruct model, or put the template into {beside.name}"
        )
    return ChatTemplate(source, bos=token_text(config.get("bos_token")), eos=token_text(config.get("eos_token")))


def too_many_characters(max_chars: int) -> PromptTooLong:
    """Return the error for a prompt of more than `max_chars` characters."""
    return PromptTooLong(f"the prompt has more than {max_chars} characters: shorten the messages")


def read_tokenizer_config(folder: Path) -> dict[str, Any]:
    """Return the content of `tokenizer_config.json`; ConfigurationError when it cannot be read."""
    path = folder / "tokenizer_config.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise broken_model(f"{path} cannot be read: {error}") from error
    if not isinstance(content, dict):
        raise broken_model(f"{path} is no JSON object")
    return content


def token_text(entry: Any) -> str:
    """Return a special token as text. Transformers writes it as a string, as an object with `content`, or as null."""
    return str(entry.get("content", "")) if isinstance(entry, dict) else (entry or "")


def _as_turn(message: Message, names: Mapping[str, str], said: Callable[[str], str]) -> dict[str, Any]:
    """Return a message as Transformers gives it to templates. `names` has the tool of each call by the call's id."""
    turn: dict[str, Any] = {"role": message.role, "content": said(message.content)}
    if message.name is not None:
        turn["name"] = said(message.name)
    if message.tool_calls:
        turn["tool_calls"] = [
            {
                "id": said(call.id),
                "type": "function",
                "function": {"name": said(call.name), "arguments": _said_in(_arguments(call.arguments), said)},
            }
            for call in message.tool_calls
        ]
    if message.tool_call_id is not None:
        turn |= {"tool_call_id": said(message.tool_call_id), "name": said(names.get(message.tool_call_id, ""))}
    return turn


def _arguments(text: str) -> Any:
    """Return the arguments of a call of before, which a caller sends: an object, else the text as it is."""
    try:
        value = json.loads(text)
    except (ValueError, RecursionError):
        return text
    return value if isinstance(value, dict) else text


def _said_in(value: Any, said: Callable[[str], str]) -> Any:
    """Return a value with each of its texts as `said`, names of fields included: callers choose those of arguments."""
    if isinstance(value, str):
        return said(value)
    if isinstance(value, dict):
        return {said(name): _said_in(item, said) for name, item in value.items()}
    return [_said_in(item, said) for item in value] if isinstance(value, list) else value


def _leaves(value: Any) -> Iterator[str]:
    """Yield the texts in a value, names of fields included."""
    todo = [value]
    while todo:
        each = todo.pop()
        if isinstance(each, str):
            yield each
        elif isinstance(each, dict):
            yield from each
            todo += each.values()
        elif isinstance(each, list):
            todo += each


def _dialect(source: str) -> Dialect:
    """Return how the model of a template writes calls: as the template itself writes those of before."""
    if not any(name.name == "tools" for name in _parsed(source).find_all(nodes.Name)):
        return Dialect.JSON
    if OPEN in source and "arguments" in source and "<function=" not in source:
        return Dialect.HERMES
    return Dialect.LLAMA if '"parameters": ' in source and "ipython" in source else Dialect.JSON


def _parsed(source: str) -> nodes.Template:
    try:
        return _environment().parse(source)
    except TemplateError as error:
        raise ConfigurationError(f"the model's chat template is no valid Jinja2: {error}") from error


@lru_cache(maxsize=32)
def _compile(source: str) -> Template:
    return _environment().from_string(_parsed(source))


@lru_cache(maxsize=1)
def _environment() -> Environment:
    # The same switches, filter and functions that Transformers gives to templates.
    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols", _GenerationBlock]
    )
    environment.filters["tojson"] = _tojson
    environment.globals["raise_exception"] = _refuse
    environment.globals["strftime_now"] = _strftime_now
    return environment


class _GenerationBlock(Extension):
    """`{% generation %}` marks the assistant's words for training; for rendering it is only its content."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


def _tojson(value: Any, indent: int | None = None, **options: Any) -> str:
    # Jinja2's own filter escapes for HTML, which would change what the model reads.
    return as_one_text(value, lambda plain: json.dumps(plain, ensure_ascii=False, indent=indent, **options))


def _refuse(message: str) -> NoReturn:
    raise TemplateError(message)


def _strftime_now(form: str) -> str:
    return datetime.now().strftime(form)


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
        """Return what this model is offered. A model that was not trained to call tools makes one call: it would repeat
        it without end.
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
        return tokens if self.room(len(tokens)) >= 1 else self.too_long(f"{len(tokens)} tokens")

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
                return tokens if self.room(tokens) >= 1 else self.too_long(f"{tokens} tokens")
            if self.room(tokens - tokens // _CUT_DOUBT) < 1:
                return self.too_long(f"{tokens} tokens in the first {read} of its {len(text)} characters")
            about = tokens * len(text) // read
            if tokens and about <= self._card.context_length // 2:
                return about
            read *= 4

    def end_of_turn(self, ends: Collection[int]) -> int | None:
        """Return which of these tokens the template writes after an answer; None where another text comes first."""
        said = [Message(role=role, content=text) for role, text in zip(_ROLES, _TURNS, strict=True)]
        written = self._render(said, NO_TOOLS)
        if isinstance(written, HeadraceError):
            return None
        rest: list[int] = written.tokenizer.encode(written.text.partition(_TURNS[1])[2], add_special_tokens=False).ids
        for number in rest:
            if number in ends:
                return number
            if self.tokenizer.decode([number], skip_special_tokens=False).strip():
                break
        return None

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

    def too_long(self, size: str) -> PromptTooLong:
        """Return the error of a prompt of this size."""
        return PromptTooLong(
            f"the prompt has {size}, and the context of {self._card.alias} holds {self._card.context_length} "
            "with the answer: shorten the messages or choose another model"
        )

    def room(self, tokens: int) -> int:
        """Return how many tokens an answer to a prompt of so many may have."""
        return self._card.context_length - tokens


def check_vocabulary(folder: Path, tokenizer: Tokenizer) -> None:
    """Raise ConfigurationError unless the weights' tokens are the tokenizer's.

    One of them may have more, as padding.
    """
    beside = folder / "vocabulary.json"
    if not beside.is_file():
        return
    for index, token in enumerate(json.loads(beside.read_text(encoding="utf-8"))):
        other = tokenizer.id_to_token(index)
        if other is not None and other != token:
            raise broken_model(
                f"{folder / 'tokenizer.json'} is not this model's: its token {index} is {other!r}, in {beside.name} "
                f"{token!r}"
            )


def end_ids(folder: Path, tokenizer: Tokenizer) -> list[int]:
    """Return every token that ends an answer: the tokenizer's, and those of `generation_config.json` (Llama 3 has
    three).
    """
    ids = {tokenizer.token_to_id(token_text(read_tokenizer_config(folder).get("eos_token")))}
    beside = folder / "generation_config.json"
    if beside.is_file():
        listed = json.loads(beside.read_text(encoding="utf-8")).get("eos_token_id")
        ids |= set(listed) if isinstance(listed, list) else {listed}
    ends = sorted(index for index in ids if index is not None)
    if not ends:
        raise ConfigurationError(f"{folder} names no end token in tokenizer_config.json: answers would never end")
    return ends
