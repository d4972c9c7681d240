"""Turn of a conversation, as models and judges receive it."""

from typing import Literal

from headrace_schemas.limits import Text
from headrace_schemas.model import Value


class Message(Value):
    """Turn of a conversation, as in OpenAI's chat format."""

    role: Literal["system", "user", "assistant"]
    content: Text
