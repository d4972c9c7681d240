"""Templates of evals: the fields that they may read, and the messages that they stand in. Pure."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

from headrace_workers.core.templates import NoSuchField, Template, as_text
from headrace_workers.features.generation.openai.request import role_of, text_of
from headrace_workers.http.openai import Parameters, missing, unsupported, wrong

SAMPLED: Final = "sample.output_text"
_ITEM: Final = "item"


class Scope(Mapping[str, Any]):
    """The names of one row: `item.question`, `item.of.any.depth`, and `sample.output_text` where there is a text."""

    def __init__(self, item: Mapping[str, Any], sampled: str | None = None) -> None:
        self._item = item
        self._sampled = sampled

    def with_sample(self, text: str) -> "Scope":
        """Return the names of the same row with this text as its sample."""
        return Scope(self._item, text)

    def __getitem__(self, name: str) -> Any:
        if name == SAMPLED:
            if self._sampled is None:
                raise KeyError(name)
            return self._sampled
        first, *path = name.split(".")
        if first != _ITEM:
            raise KeyError(name)
        if not path:
            return self._item
        found: Any = self._item
        if (whole := ".".join(path)) in self._item:  # a name may have a dot in it
            return self._item[whole]
        for part in path:
            if not isinstance(found, Mapping) or part not in found:
                raise KeyError(name)
            found = found[part]
        return found

    def __iter__(self) -> Iterator[str]:
        yield from (f"{_ITEM}.{name}" for name in self._item)
        if self._sampled is not None:
            yield SAMPLED

    def __len__(self) -> int:
        return sum(1 for _ in self)


def template_of(text: str, path: str) -> Template:
    """Return the template. Raise Refused, which names a placeholder that reads an unknown value."""
    try:
        template = Template.parse(text)
    except ValueError as error:
        raise wrong(path, str(error)) from None
    for name in template.fields:
        if name != SAMPLED and name.split(".")[0] != _ITEM:
            raise unsupported(
                path, f"{{{{{name}}}}} is not known: a template reads {{{{item.…}}}} and {{{{{SAMPLED}}}}}"
            )
    return template


def filled(template: Template, scope: Mapping[str, Any], what: str, write: Callable[[Any], str] = as_text) -> str:
    """Return the text for a row. Raise ValueError, which names a missing field and its use."""
    try:
        return template.fill(scope, write=write)
    except NoSuchField as error:
        raise ValueError(f"{what} cannot be filled: {error}") from None


_PARTS: Final = {"input_text": "text", "output_text": "text", "text": "text"}
_MESSAGE: Final = Parameters(works=frozenset({"role", "content", "type"}))


def said_in(raw: Any, path: str) -> tuple[str, str]:
    """Return role and text of a message, as a job has them. Raise Refused, which names what is wrong."""
    given = _MESSAGE.given(raw, path)
    if given.get("type", "message") != "message":
        raise unsupported(f"{path}.type", "must be message")
    content = given.get("content")
    if content is None:
        raise missing(f"{path}.content")
    content = [content] if isinstance(content, Mapping) else content
    return role_of(given.get("role"), f"{path}.role"), text_of(content, _PARTS, f"{path}.content")
