"""The data source of a run: where its rows come from, and which model is asked with what, if one is. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from headrace_schemas import Message, Sampling
from headrace_schemas.limits import MAX_MESSAGES
from headrace_schemas.output_format import OutputFormat
from headrace_schemas.reasons import describe
from headrace_workers.core.templates import Template, as_text
from headrace_workers.features.evals.templates import SAMPLED, Scope, filled, said_in, template_of
from headrace_workers.features.generation.openai.formats import chat_format, response_format
from headrace_workers.http.openai import Parameters, missing, unsupported, wrong

ROWS: Final = "jsonl"  # of the types of data source: no model is asked, the rows have what is to be judged
_SAMPLES: Final = ("completions", "responses")
_SOURCE: Final = Parameters(works=frozenset({"type", "source", "model", "input_messages", "sampling_params"}))
_ROW_SOURCE: Final = Parameters(works=frozenset({"type", "source"}))
_FILE: Final = Parameters(works=frozenset({"type", "id"}))
_CONTENT: Final = Parameters(works=frozenset({"type", "content"}))
_ROW: Final = Parameters(works=frozenset({"item", "sample"}))
_TEMPLATE: Final = Parameters(works=frozenset({"type", "template"}))
_REFERENCE: Final = Parameters(works=frozenset({"type", "item_reference"}))
_SAMPLING: Final = Parameters(
    works=frozenset({"temperature", "top_p", "seed", "max_completion_tokens", "response_format", "text"}),
    refused={"tools": ([],)},
    unmeant={"reasoning_effort": ("none",)},
)
_FORMATS: Final = ("response_format", "text")
_FORMAT: Final = TypeAdapter[OutputFormat](OutputFormat)


@dataclass(frozen=True, slots=True)
class Turn:
    """A message that rows fill."""

    role: str
    content: Template


@dataclass(frozen=True, slots=True)
class Asks:
    """The model that is asked, and its messages: templates that rows fill, or a field of each row that holds them."""

    model: str
    turns: tuple[Turn, ...]
    reference: str | None
    sampling: Sampling
    output: OutputFormat | None = None
    names: Mapping[str, str] = field(default_factory=dict)

    def messages(self, scope: Scope) -> tuple[Message, ...]:
        """Return the messages for a row. Raise ValueError, which says what is wrong with the row."""
        if self.reference is None:
            return tuple(
                Message(role=turn.role, content=filled(turn.content, scope, f"message {place}"))
                for place, turn in enumerate(self.turns, 1)
            )
        if self.reference not in scope:
            raise ValueError(f"it lacks `{self.reference}`, which input_messages refers to")
        found = scope[self.reference]
        if isinstance(found, str):
            return (Message(role="user", content=found),)
        if not isinstance(found, Sequence) or not found or len(found) > MAX_MESSAGES:
            raise ValueError(f"`{self.reference}` must be text, or a list of 1 to {MAX_MESSAGES} messages")
        return tuple(_spoken(item, f"{self.reference}[{place}]") for place, item in enumerate(found))


@dataclass(frozen=True, slots=True)
class DataSource:
    """The origin of rows: a file of the tenant's, or the request itself. `asks` is None where no model is asked."""

    file_id: str | None
    content: tuple[Mapping[str, Any], ...] | None
    asks: Asks | None


def data_source_of(raw: Any, path: str = "data_source") -> DataSource:
    """Return the data source. Raise Refused, which names what is wrong or not supported."""
    kind = raw.get("type") if isinstance(raw, Mapping) else None
    if kind not in (ROWS, *_SAMPLES):
        raise unsupported(f"{path}.type", f"must be one of {', '.join((ROWS, *_SAMPLES))}")
    given = (_ROW_SOURCE if kind == ROWS else _SOURCE).given(raw, path)
    file_id, content = _rows(given.get("source"), f"{path}.source")
    return DataSource(file_id, content, None if kind == ROWS else _asks(given, path))


def _rows(raw: Any, path: str) -> tuple[str | None, tuple[Mapping[str, Any], ...] | None]:
    kind = raw.get("type") if isinstance(raw, Mapping) else None
    if kind == "file_id":
        file_id = _FILE.given(raw, path).get("id")
        if not isinstance(file_id, str) or not file_id:
            raise missing(f"{path}.id")
        return file_id, None
    if kind != "file_content":
        raise unsupported(f"{path}.type", "must be file_id or file_content")
    content = _CONTENT.given(raw, path).get("content")
    if not isinstance(content, list | tuple) or not content:
        raise wrong(f"{path}.content", "must be a list of at least one row")
    for place, row in enumerate(content):
        given = _ROW.given(row, f"{path}.content[{place}]")
        if not isinstance(given.get("item"), Mapping):
            raise wrong(f"{path}.content[{place}].item", "must be an object")
    return None, tuple(content)


def _asks(given: Mapping[str, Any], path: str) -> Asks:
    model = given.get("model")
    if not isinstance(model, str):
        raise missing(f"{path}.model")
    raw = given.get("input_messages")
    kind = raw.get("type") if isinstance(raw, Mapping) else None
    within = f"{path}.input_messages"
    if raw is None:
        raise missing(within)
    sampling, output, names = _sampling(given.get("sampling_params") or {}, f"{path}.sampling_params")
    if kind == "item_reference":
        name = _REFERENCE.given(raw, within).get("item_reference")
        if not isinstance(name, str) or not name.startswith("item."):
            raise wrong(f"{within}.item_reference", "must name a field, such as item.messages")
        return Asks(model, (), name, sampling, output, names)
    if kind != "template":
        raise unsupported(f"{within}.type", "must be template or item_reference")
    turns = _TEMPLATE.given(raw, within).get("template")
    if not isinstance(turns, list | tuple) or not 0 < len(turns) <= MAX_MESSAGES:
        raise wrong(f"{within}.template", f"must be a list of 1 to {MAX_MESSAGES} messages")
    found = tuple(_turn(turn, f"{within}.template[{n}]") for n, turn in enumerate(turns))
    return Asks(model, found, None, sampling, output, names)


def _sampling(raw: Any, path: str) -> tuple[Sampling, OutputFormat | None, Mapping[str, str]]:
    given = _SAMPLING.given(raw, path)
    output, names = _output(given, path)
    given = {name: value for name, value in given.items() if name not in _FORMATS}
    if "max_completion_tokens" in given:
        given["max_tokens"] = given.pop("max_completion_tokens")
    try:
        return Sampling.model_validate(given), output, names
    except ValidationError as error:
        raise wrong(path, describe(error).replace("max_tokens", "max_completion_tokens")) from None


def _output(given: Mapping[str, Any], path: str) -> tuple[OutputFormat | None, Mapping[str, str]]:
    """Return the format that answers must have, by chats' parameter for it or by responses', and the names of its
    fields.
    """
    chat, text = (f"{path}.{name}" for name in _FORMATS)
    found = [item for item in (chat_format(given, chat), response_format(given, text)) if item.fields]
    if not found:
        return None, {}
    if len(found) > 1:
        raise wrong(chat, f"both this and {text} name a format: leave one out")
    (asked,) = found
    try:
        return _FORMAT.validate_python(asked.fields["output"]), asked.names
    except ValidationError as error:
        raise wrong(asked.names["output"], describe(error)) from None


def _turn(raw: Any, path: str) -> Turn:
    role, content = said_in(raw, path)
    template = template_of(content, f"{path}.content")
    if SAMPLED in template.fields:
        raise unsupported(f"{path}.content", f"{{{{{SAMPLED}}}}} is what this is to bring")
    return Turn(role, template)


def _spoken(raw: Any, path: str) -> Message:
    role, content = said_in(raw, path)
    return Message(role=role, content=content)


def judged_text(template: Template | None, scope: Scope, item: Mapping[str, Any]) -> str:
    """Return the text of a row that graders judge where no model was asked: the text that they read, or the item as
    JSON.
    """
    return as_text(item) if template is None else filled(template, scope, "input")
