"""Formats that a job may ask its answer to have. A job whose answer has another one fails, and says why."""

import json
from functools import cached_property
from typing import Annotated, Final, Literal

from pydantic import Field

from headrace_schemas.limits import FAIL_FAST, NO_NUL, FunctionName, ShortText
from headrace_schemas.model import Value
from headrace_schemas.schema_object import MAX_SCHEMA_BYTES, SchemaObject

MAX_CHOICES: Final = 10_000  # and values of an enum
MAX_PATTERN: Final = 20_000  # characters of a regular expression

Failure = Literal["unparsable", "truncated", "unsatisfiable"]
FormatName = Literal["json_schema", "json_object", "choice", "regex", "grammar"]

_TYPE: Final = Field(description="The kind of format.")
_NAME: Final = Field(description="Your name for the format. The model reads it, too.")


class JsonSchemaFormat(Value):
    """JSON that is valid by a JSON Schema (drafts 4 to 2020-12)."""

    type: Annotated[Literal["json_schema"], _TYPE] = "json_schema"
    json_schema: Annotated[SchemaObject, Field(description="The JSON Schema.")]
    name: Annotated[FunctionName | None, _NAME] = None
    in_prompt: Annotated[
        bool, Field(description="Whether the schema stands in the prompt, too. It then counts as tokens of the prompt.")
    ] = True

    @cached_property
    def as_json(self) -> str:
        """Return the schema as compact JSON, which is written once."""
        return json.dumps(self.json_schema, ensure_ascii=False, separators=(",", ":"))


class JsonObjectFormat(Value):
    """A JSON object of any content."""

    type: Annotated[Literal["json_object"], _TYPE] = "json_object"


class ChoiceFormat(Value):
    """One of these texts, and nothing else."""

    type: Annotated[Literal["choice"], _TYPE] = "choice"
    choices: Annotated[
        tuple[Annotated[ShortText, Field(min_length=1)], ...],
        Field(min_length=1, max_length=MAX_CHOICES, description="The texts."),
        FAIL_FAST,
    ]


class RegexFormat(Value):
    """Text that a regular expression matches from its beginning to its end (Rust's syntax, without look-around)."""

    type: Annotated[Literal["regex"], _TYPE] = "regex"
    pattern: Annotated[
        str,
        Field(min_length=1, max_length=MAX_PATTERN, pattern=NO_NUL, description="The regular expression."),
    ]


class GrammarFormat(Value):
    """Text that a context-free grammar derives: Lark's notation, as llguidance reads it."""

    type: Annotated[Literal["grammar"], _TYPE] = "grammar"
    grammar: Annotated[
        str, Field(min_length=1, max_length=MAX_SCHEMA_BYTES, pattern=NO_NUL, description="The grammar.")
    ]


OutputFormat = Annotated[
    JsonSchemaFormat | JsonObjectFormat | ChoiceFormat | RegexFormat | GrammarFormat, Field(discriminator="type")
]
