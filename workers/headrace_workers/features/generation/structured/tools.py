"""Tools that a model may call: their description, and how it writes a call. Light, since the bridge imports it."""

import json
from collections.abc import Callable, Sequence
from enum import StrEnum
from typing import Any, Final

from headrace_schemas import GenerationJob
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.tool import Tool

MAX_TOOLS_BYTES: Final = 256 * 1024  # of all tools of a job, as JSON
OPEN: Final = "<tool_call>"
CLOSE: Final = "</tool_call>"


class Dialect(StrEnum):
    """The way in which a model writes a call. `JSON` is asked of models whose template knows no tools."""

    HERMES = "hermes"  # Qwen and others: <tool_call>\n{"name": …, "arguments": …}\n</tool_call>
    HERMES_TOKENS = "hermes with tokens"  # the same, with tags that are tokens of their own
    LLAMA = "llama"  # Llama 3.1 and later: {"name": …, "parameters": …}
    JSON = "json"  # {"name": …, "arguments": …}

    @property
    def arguments(self) -> str:
        """Return the name under which the arguments stand."""
        return "parameters" if self is Dialect.LLAMA else "arguments"


def arguments_schema(tool: Tool) -> dict[str, Any]:
    """Return the JSON Schema of a tool's arguments, an object. A tool without parameters takes none."""
    if not tool.parameters:
        return {"type": "object", "properties": {}, "additionalProperties": False}
    return {**tool.parameters, "type": "object"}


def described(tool: Tool) -> dict[str, Any]:
    """Return a tool as OpenAI's API and most chat templates describe it."""
    parameters = tool.parameters or {"type": "object", "properties": {}}
    return {
        "type": "function",
        "function": {"name": tool.name, "description": tool.description, "parameters": parameters},
    }


def size_of(tools: Sequence[Tool]) -> int:
    """Return the bytes of tools as JSON."""
    return sum(len(as_json(described(each)).encode("utf-8", "surrogatepass")) for each in tools)


def as_json(value: Any) -> str:
    """Return a value as JSON, with the characters as they are."""
    return json.dumps(value, ensure_ascii=False)


def check_size(tools: Sequence[Tool]) -> None:
    """Raise InvalidRecord where the tools of a job are too large together. Quick."""
    try:
        size = size_of(tools)
    except RecursionError:
        raise InvalidRecord("the parameters of a tool are nested too deep", param="tools") from None
    if size > MAX_TOOLS_BYTES:
        raise InvalidRecord(
            f"the tools have {size:,} bytes as JSON together; the limit is {MAX_TOOLS_BYTES:,}", param="tools"
        )


def check_choice(job: GenerationJob, knows_tools: Callable[[str], bool]) -> None:
    """Raise InvalidRecord where a model of the job cannot choose whether to call a tool."""
    if not job.tools or job.tool_choice not in (None, "auto"):
        return
    if unable := next((alias for alias in job.chain if not knows_tools(alias)), None):
        raise InvalidRecord(
            f"the model {unable} cannot choose whether to call a tool: its provider takes no tools. Set tool_choice to "
            "required or to the name of a tool, or name another model",
            param="tool_choice",
            code="unsupported_parameter",
        )
