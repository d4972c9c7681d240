"""Turn of a conversation, as models and judges receive it."""

from typing import Annotated, Literal

from pydantic import Field

from headrace_schemas.limits import Text
from headrace_schemas.model import Value


class Message(Value):
    """Turn of a conversation, as in OpenAI's chat format."""

    role: Annotated[Literal["system", "user", "assistant"], Field(description="Who speaks.")]
    content: Annotated[Text, Field(description="The text of the turn.")]
