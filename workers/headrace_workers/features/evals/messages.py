"""Messages of evals: those for the model that is asked, and those for a model that judges."""

from collections.abc import Mapping
from typing import Any, Final

from headrace_workers.features.generation.openai.content import role_of, text_of
from headrace_workers.http.openai_errors import missing, unsupported
from headrace_workers.http.openai_parameters import Parameters

_PARTS: Final = {"input_text": "text", "output_text": "text", "text": "text"}
_MESSAGE: Final = Parameters(works=frozenset({"role", "content", "type"}))


def said_in(raw: Any, path: str) -> tuple[str, str]:
    """Return role and text of a message, as a job has them. Raise Refused, which names what is wrong."""
    given = _MESSAGE.given(raw, path)
    if given.get("type", "message") != "message":
        raise unsupported(f"{path}.type", "must be message")
    content = given.get("content")
    if content is None:
        raise missing(f"{path}.content")
    content = [content] if isinstance(content, Mapping) else content
    return role_of(given.get("role"), f"{path}.role"), text_of(content, _PARTS, f"{path}.content")
