"""The grammar of a format, as llguidance takes it. Pure.

A grammar may let through more than its schema does, where llguidance does not know a keyword (see `guiding`): the check
of the whole answer decides (see `validity`).
"""

import json
import re
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Final

from llguidance import LLMatcher

from headrace_schemas.output_format import (
    ChoiceFormat,
    GrammarFormat,
    JsonObjectFormat,
    OutputFormat,
    RegexFormat,
)
from headrace_workers.features.generation.structured.guiding import guiding

if TYPE_CHECKING:
    from llguidance._lib import JsonCompileOptions

# Between two tokens. Without a bound, models wrote white space until their tokens ended; without any white space they
# closed lists that they would have begun on a new line.
WHITE_SPACE: Final = r"[ \n\r\t]{1,8}"

_OPTIONS: Final["JsonCompileOptions"] = {"whitespace_pattern": WHITE_SPACE, "lenient": True}
_SPECIAL: Final = re.compile(r"[^A-Za-z0-9\u0080-\U0010ffff]")


def grammar_of(output: OutputFormat) -> str:
    """Return the grammar of a format, in llguidance's JSON notation."""
    match output:
        case JsonObjectFormat():
            return _of_schema({"type": "object"})
        case ChoiceFormat(choices=choices):
            return str(LLMatcher.grammar_from_regex("|".join(map(_literal, choices))))
        case RegexFormat(pattern=pattern):
            return str(LLMatcher.grammar_from_regex(pattern))
        case GrammarFormat(grammar=grammar):
            return str(LLMatcher.grammar_from_lark(grammar))
        case _:
            return _of_json_schema(output.as_json)


@lru_cache(maxsize=32)
def _of_json_schema(text: str) -> str:
    return _of_schema(guiding(json.loads(text)))


def _of_schema(schema: dict[str, Any]) -> str:
    return str(LLMatcher.grammar_from_json_schema(json.dumps(schema), None, _OPTIONS))


def _literal(text: str) -> str:
    """Return the regular expression of a text. One lexeme holds ten thousand texts; as many rules are too many."""
    return _SPECIAL.sub(lambda found: f"\\x{{{ord(found[0]):x}}}", text)
