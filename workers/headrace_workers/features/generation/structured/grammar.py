"""The grammar of a format, as llguidance takes it. Pure."""

import json

from llguidance import LLMatcher

from headrace_schemas.output_format import (
    ChoiceFormat,
    GrammarFormat,
    JsonObjectFormat,
    OutputFormat,
    RegexFormat,
)


def grammar_of(output: OutputFormat) -> str:
    """Return the grammar of a format, in llguidance's JSON notation."""
    match output:
        case JsonObjectFormat():
            return str(LLMatcher.grammar_from_json_schema(json.dumps({"type": "object"})))
        case ChoiceFormat(choices=choices):
            alternatives = " | ".join(json.dumps(each, ensure_ascii=False) for each in choices)
            return str(LLMatcher.grammar_from_lark(f"start: {alternatives}"))
        case RegexFormat(pattern=pattern):
            return str(LLMatcher.grammar_from_regex(pattern))
        case GrammarFormat(grammar=grammar):
            return str(LLMatcher.grammar_from_lark(grammar))
        case _:
            return str(LLMatcher.grammar_from_json_schema(json.dumps(output.json_schema)))
