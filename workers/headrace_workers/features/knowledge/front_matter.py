"""The fields that Markdown files keep between two lines `---` at their beginning, as attributes of the document. Pure.

They are YAML, read by its safe loader without aliases, of which a few lines could make gigabytes. A field that can be
no attribute (a list, a map, nothing, a text that is too long) is passed over: front matter is written for other tools.
"""

import codecs
from dataclasses import dataclass
from datetime import date
from functools import cache
from typing import Any, Final

from pydantic import TypeAdapter, ValidationError

from headrace_schemas.attributes import AttributeKey, AttributeMap, AttributeValue
from headrace_workers.features.knowledge.decoding import clean

LONGEST: Final = 16_384  # bytes that are looked at
_MARK: Final = "---\n"
_CLOSE: Final = "\n---\n"


@dataclass(frozen=True, slots=True)
class FrontMatter:
    """Attributes in order, the names of fields that can be none, and why all of it could not be read."""

    attributes: AttributeMap
    passed_over: tuple[str, ...] = ()
    trouble: str | None = None


NONE: Final = FrontMatter({})


def behind(text: str) -> int:
    """Return the place after the front matter; 0 if there is none."""
    if text.startswith(_MARK) and (close := text.find(_CLOSE, len(_MARK) - 1)) >= 0:
        return close + len(_CLOSE)
    return 0


def read(data: bytes) -> FrontMatter:
    """Return the front matter that a Markdown file in UTF-8 begins with."""
    head = data.removeprefix(codecs.BOM_UTF8)[: LONGEST + 1]
    if not head.startswith((b"---\n", b"---\r\n")):
        return NONE
    text = clean(head[:LONGEST].decode("utf-8", "ignore"))
    end = behind(text)
    if not end:
        cut = len(head) > LONGEST
        return FrontMatter({}, trouble=f"its front matter does not end within {LONGEST:,} bytes") if cut else NONE
    return _parsed(text[len(_MARK) : end - len(_CLOSE) + 1])


def _parsed(written: str) -> FrontMatter:
    from yaml import YAMLError, load

    try:
        fields = load(written, _loader())  # noqa: S506 - it is a SafeLoader
    except YAMLError as error:
        return FrontMatter({}, trouble=f"its front matter is no YAML: {_message_of(error)}")
    except (ValueError, RecursionError) as error:  # a day that there is not, a number of many digits, deep nesting
        return FrontMatter({}, trouble=f"its front matter cannot be read: {str(error)[:200]}")
    if not isinstance(fields, dict):
        return NONE
    taken: dict[str, bool | int | float | str] = {}
    passed: list[str] = []
    for key, value in fields.items():
        try:
            taken[_KEY.validate_python(key)] = _VALUE.validate_python(_plain(value))
        except ValidationError:
            passed.append(str(key)[:64])
    return FrontMatter(taken, tuple(passed))


_KEY: Final[TypeAdapter[str]] = TypeAdapter(AttributeKey)
_VALUE: Final[TypeAdapter[bool | int | float | str]] = TypeAdapter(AttributeValue)


def _plain(value: object) -> object:
    """Days and times are texts, whose order is theirs."""
    return value.isoformat() if isinstance(value, date) else value


def _message_of(error: Exception) -> str:
    """Return what is wrong, and in which line of the file."""
    problem, mark = getattr(error, "problem", None), getattr(error, "problem_mark", None)
    where = "" if mark is None else f" in line {mark.line + 2}"
    return f"{problem or type(error).__name__}{where}"[:200]


@cache
def _loader() -> Any:
    """YAML's safe loader, without aliases."""
    from yaml import AliasEvent, SafeLoader
    from yaml.composer import ComposerError

    class NoAliases(SafeLoader):
        """Refuses them, and with them what they could be multiplied to."""

        def compose_node(self, parent: Any, index: Any) -> Any:
            if self.check_event(AliasEvent):
                raise ComposerError(None, None, "aliases (*) are not taken", self.peek_event().start_mark)  # type: ignore[no-untyped-call]
            return super().compose_node(parent, index)

    return NoAliases
