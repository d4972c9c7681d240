"""Texts with `{{field}}` in them: the row's value of that name replaces it, and is not expanded again."""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Self

_PLACE: Final = re.compile(r"\{\{\s*([^\s{}](?:[^{}]*[^\s{}])?)\s*\}\}")


class NoSuchField(ValueError):
    """The reason why a row cannot fill a text."""


@dataclass(frozen=True, slots=True)
class Template:
    """Texts in turn with names of fields: `texts` has one more than `fields`. There is no logic in it."""

    texts: tuple[str, ...]
    fields: tuple[str, ...]

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the template. Raise ValueError where `{{` opens no valid placeholder."""
        parts = _PLACE.split(text)
        for part in parts[::2]:
            if "{{" in part:
                shown = part[part.index("{{") :][:30]
                raise ValueError(f"{shown!r} opens no placeholder: one is a field's name between {{{{ and }}}}")
        return cls(tuple(parts[::2]), tuple(parts[1::2]))

    def fill(self, row: Mapping[str, Any]) -> str:
        """Return the text for a row: texts as they are, other values as JSON. Raise NoSuchField for a missing field."""
        filled = [self.texts[0]]
        for name, text in zip(self.fields, self.texts[1:], strict=True):
            value = row.get(name)
            if value is None:
                has = ", ".join(f"`{each}`" for each in row) or "nothing"
                raise NoSuchField(f"`{name}` is null" if name in row else f"it lacks `{name}`; it has {has}")
            filled += (value if isinstance(value, str) else json.dumps(value, ensure_ascii=False), text)
        return "".join(filled)
