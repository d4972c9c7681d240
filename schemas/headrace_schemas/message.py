"""One turn of a conversation, in what is asked of a model and of one that judges."""

from typing import Literal

from headrace_schemas.limits import Text
from headrace_schemas.model import Value


class Message(Value):
    """One turn of a conversation, as in OpenAI's chat format."""

    role: Literal["system", "user", "assistant"]
    content: Text
