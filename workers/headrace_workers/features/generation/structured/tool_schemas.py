"""The schemas of tools' arguments: which can be held to, and their validators. Pure."""

from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

import jsonschema_rs
from llguidance import LLMatcher

from headrace_schemas.errors import InvalidRecord
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_schemas.tool import Tool
from headrace_workers.features.generation.structured.grammar import grammar_of
from headrace_workers.features.generation.structured.tools import arguments_schema, as_json

_PATTERN_BYTES: Final = 100_000  # of one pattern when it is compiled


def check_schemas(tools: Sequence[Tool]) -> None:
    """Raise InvalidRecord, which names the tool, where its parameters are no schema that arguments can be held to."""
    for place, tool in enumerate(tools):
        param = f"tools[{place}].parameters"
        kind = tool.parameters.get("type", "object")
        if kind != "object" and not (isinstance(kind, list) and "object" in kind):
            raise InvalidRecord(
                f"the parameters of the tool {tool.name} have the type {as_json(kind)}: arguments "
                'are an object, so say "type": "object"',
                param=f"{param}.type",
            )
        try:
            validator_of(tool)
        except (jsonschema_rs.ValidationError, jsonschema_rs.ReferencingError, ValueError, RecursionError) as error:
            wrong = str(error)
        else:
            wrong = LLMatcher.validate_grammar(grammar_of(JsonSchemaFormat(json_schema=arguments_schema(tool))))
        if wrong:
            raise InvalidRecord(f"the parameters of the tool {tool.name} cannot be held to: {wrong[:500]}", param=param)


def validator_of(tool: Tool) -> Any:
    """Return the validator of a tool's arguments, which fetches nothing and quotes no value."""
    return _validator(as_json(arguments_schema(tool)))


@lru_cache(maxsize=256)
def _validator(schema: str) -> Any:
    return jsonschema_rs.validator_for(
        schema,
        validate_formats=True,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_BYTES),
        offline=True,
        mask="it",
    )
