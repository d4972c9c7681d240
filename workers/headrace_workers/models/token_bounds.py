"""The most tokens that a call of any model may have, without its tokenizer. Pure."""

from collections.abc import Sequence
from typing import Final
from unicodedata import normalize

from headrace_schemas import Message
from headrace_schemas.output_format import OutputFormat
from headrace_schemas.tool import Tool
from headrace_workers.models.structured.tools import as_json, described

TURN_TOKENS: Final = 32  # that a template may add to a message

_OWN_TURNS: Final = 4  # of the template or the provider: a system prompt, the date; and of the marks of features
_ADDED_TURNS: Final = 4  # of features, from what a job carries
_ABOUT_TOOLS: Final = 640  # tokens of words about calls: Anthropic's are up to 530


def tokens_at_most(
    turns: Sequence[Message], output: OutputFormat | None, tools: Sequence[Tool], max_tokens: int, *, carried: int = 0
) -> int:
    """Return the most tokens of a call with these turns, which asks for this format, offers these tools, and may write
    `max_tokens`: no text has more tokens than bytes, once it is normalized as the tokenizer may do.

    A format may be read twice, in the prompt and beside it. The bytes that a job `carried` here count whole.
    """
    around = TURN_TOKENS * (len(turns) + _OWN_TURNS + (_ADDED_TURNS if carried else 0))
    if output is not None:
        around += _tokens_of_text(output.model_dump_json())
    if tools:
        around += _ABOUT_TOOLS + sum(_tokens_of_text(as_json(described(tool))) for tool in tools)
    return sum(map(_tokens_of_turn, turns)) + carried + around + max_tokens


def _tokens_of_turn(turn: Message) -> int:
    """Return the most tokens of a turn's text and calls. A template may write the arguments of a call with more blanks
    than they came with: at most as many as characters.
    """
    calls = sum(
        2 * _tokens_of_text(f"{tool_call.name}{tool_call.arguments}") + TURN_TOKENS for tool_call in turn.tool_calls
    )
    return _tokens_of_text(turn.content) + _tokens_of_text(turn.name or "") + len(turn.tool_call_id or "") + calls


def _tokens_of_text(text: str) -> int:
    """Return the most tokens of a text. Some tokenizers normalize it first, to up to three (NFC) or eleven (NFKC) times
    as many bytes.
    """
    size = len(text.encode("utf-8", "surrogatepass"))
    if text.isascii():
        return size
    return max(size, *(len(normalize(form, text).encode("utf-8", "surrogatepass")) for form in ("NFC", "NFKC")))
