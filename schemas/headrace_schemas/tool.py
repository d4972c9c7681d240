"""Tools that a model may call: their description, which of them it must call, and its calls. Nothing is executed."""

from typing import Annotated, Final, Literal, NamedTuple

from pydantic import Field

from headrace_schemas.limits import MAX_TEXT, NO_NUL, FunctionName, ShortText
from headrace_schemas.model import OutgoingValue, Value
from headrace_schemas.schema_object import SchemaObject

MAX_TOOLS: Final = 128
MAX_CALLS: Final = 128  # of one answer

CallId = Annotated[str, Field(min_length=1, max_length=128, pattern=NO_NUL)]


class Tool(Value):
    """A function that a model may ask its caller to run."""

    name: Annotated[FunctionName, Field(description="The tool's name: 1 to 64 of A-Z, a-z, 0-9, '_' and '-'.")]
    description: Annotated[ShortText, Field(description="What it does, for the model.")] = ""
    parameters: Annotated[SchemaObject, Field(description="The JSON Schema of its arguments, an object.")] = {}


class NamedTool(Value):
    """The one tool that the model must call."""

    name: Annotated[FunctionName, Field(description="The tool's name.")]


ToolChoice = Literal["none", "auto", "required"] | NamedTool


class Offer(NamedTuple):
    """The tools that a model may call, and how. False if there are none."""

    tools: tuple[Tool, ...] = ()
    required: bool = False  # an answer without a call is wrong
    beside_format: bool = False  # the answer has a format or is a call, so a call stands in tags
    most: int = 1  # calls of one answer

    def __bool__(self) -> bool:
        return bool(self.tools)


NO_TOOLS: Final = Offer()


class ToolCall(OutgoingValue):
    """A call that a model asks for. Its arguments are valid by the tool's schema."""

    id: Annotated[CallId, Field(description="The id by which a message with the tool's result names the call.")]
    name: Annotated[FunctionName, Field(description="The tool.")]
    arguments: Annotated[
        str, Field(max_length=MAX_TEXT, pattern=NO_NUL, description="The arguments, an object as JSON.")
    ]
