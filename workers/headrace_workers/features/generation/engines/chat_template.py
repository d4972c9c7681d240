"""A model's own chat template, rendered as Transformers does it, in Jinja2's immutable sandbox.

A template comes with the model, so it is code from strangers: it reaches no attribute that it should not, and what it
writes is bounded.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import datetime
from functools import lru_cache
from pathlib import Path
from typing import Any, NoReturn

from jinja2 import Environment, Template, TemplateError, nodes
from jinja2.ext import Extension
from jinja2.parser import Parser
from jinja2.sandbox import ImmutableSandboxedEnvironment

from headrace_schemas import Message
from headrace_schemas.errors import ConfigurationError, HeadraceError, PromptTooLong
from headrace_schemas.tool import Tool
from headrace_workers.features.generation.models.added_tokens import as_one_text
from headrace_workers.features.generation.models.broken_model import broken_model
from headrace_workers.features.generation.structured.tools import OPEN, Dialect, described

MAX_RENDERED = 4_000_000  # characters; no context of today's models holds so much


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
                "messages": [_as_turn(each, names, said) for each in messages],
                "tools": [_said_in(described(each), said) for each in tools] or None,
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
        return {said(name): _said_in(each, said) for name, each in value.items()}
    return [_said_in(each, said) for each in value] if isinstance(value, list) else value


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
