"""Turn of a conversation, as models and judges receive it."""

from typing import Annotated, Literal

from pydantic import Field, model_validator

from headrace_schemas.limits import FAIL_FAST, SPEAKER, Text
from headrace_schemas.model import Value
from headrace_schemas.tool import MAX_CALLS, CallId, ToolCall

SpeakerName = Annotated[str, Field(min_length=1, max_length=64, pattern=SPEAKER)]


class Message(Value):
    """Turn of a conversation, as in OpenAI's chat format."""

    role: Annotated[
        Literal["system", "user", "assistant", "tool"],
        Field(description="Who speaks; `tool` gives the result of a call."),
    ]
    content: Annotated[Text, Field(description="The text of the turn.")] = ""
    name: Annotated[
        SpeakerName | None,
        Field(description="The name of who speaks, where several speak in one role. Some models read it."),
    ] = None
    tool_calls: Annotated[
        tuple[ToolCall, ...],
        Field(max_length=MAX_CALLS, description="The calls that the assistant asked for in this turn."),
        FAIL_FAST,
    ] = ()
    tool_call_id: Annotated[
        CallId | None,
        Field(description="The call of an earlier turn whose result this is; only in a turn of a tool."),
    ] = None

    @model_validator(mode="after")
    def _fits_its_role(self) -> "Message":
        if (self.role == "tool") != (self.tool_call_id is not None):
            raise ValueError("tool_call_id is given exactly in a turn of role tool")
        if self.tool_calls and self.role != "assistant":
            raise ValueError("tool_calls are given in a turn of another role than assistant")
        if "content" not in self.model_fields_set and not self.tool_calls:
            raise ValueError("content is missing")
        return self
