"""The JSON Schema that the rows of an eval keep to: with the bounds of a criterion's, and checked as one."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final, Self

from headrace_schemas.answer_schema import bounded
from headrace_workers.features.judging.conforming import compiled, first_fault
from headrace_workers.features.judging.unjudged import TooDeep, UnusableSchema
from headrace_workers.http.openai_errors import wrong

_PATH: Final = "data_source_config.item_schema"
_KEPT: Final = 32  # schemas that are compiled already: an open run is looked at twice a second


@dataclass(frozen=True, slots=True)
class ItemSchema:
    """A schema that can be used, as JSON."""

    text: str

    @classmethod
    def of(cls, schema: Any) -> Self:
        """Return the schema. Raise Refused, which says why it cannot be used."""
        if not isinstance(schema, Mapping):
            raise wrong(_PATH, "must be an object: the JSON Schema of each row")
        try:
            text = json.dumps(bounded(dict(schema)))
            _compiled(text)
        except (ValueError, UnusableSchema) as error:
            raise wrong(_PATH, str(error).removeprefix("the schema ")) from None
        return cls(text)

    def hold(self, item: Mapping[str, Any]) -> None:
        """Raise ValueError, which names the first fault, where an item does not match the schema."""
        try:
            fault = first_fault(_compiled(self.text), item)
        except TooDeep:
            raise ValueError("it is nested too deeply to be held to item_schema") from None
        if fault is not None:
            raise ValueError(f"it does not keep to item_schema: {fault}")


@lru_cache(_KEPT)
def _compiled(text: str) -> Any:
    return compiled(json.loads(text))
