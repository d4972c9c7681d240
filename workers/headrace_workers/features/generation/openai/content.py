"""Messages as OpenAI writes them, and as a job holds them: one role and one text each."""

from collections.abc import Iterator, Sequence
from typing import Any, Final

from headrace_workers.http.openai_errors import missing, unsupported, wrong
from headrace_workers.http.openai_parameters import Parameters

# Instructions of whoever builds on a model are the system's to the models that run here.
_ROLES: Final = {"system": "system", "developer": "system", "user": "user", "assistant": "assistant"}

# By the name of a part's type: the field that its text is in.
CHAT_PARTS: Final = {"text": "text", "refusal": "refusal"}
RESPONSE_PARTS: Final = {"input_text": "text", "output_text": "text", "refusal": "refusal"}

_PART: Final = Parameters(
    # Citations of an earlier answer come back as they were given; its text has their numbers.
    frozenset({"type", "text", "refusal", "annotations"}),
    refused={"logprobs": ([],)},
    unmeant={"prompt_cache_breakpoint": ()},
)


def role_of(role: object, param: str) -> str:
    """Return the role of a message in a job. Raise Refused for a role that headrace does not have."""
    found = _ROLES.get(role) if isinstance(role, str) else None
    if found is None:
        raise unsupported(param, f"must be one of {', '.join(_ROLES)}")
    return found


def text_of(content: object, parts: dict[str, str], param: str) -> str:
    """Return the content as one text: a text as it is, or parts of text, a line each. Raise Refused for other parts."""
    if isinstance(content, str):
        return content
    if not isinstance(content, list | tuple):
        raise wrong(param, "must be text, or a list of parts")
    return "\n".join(_texts(content, parts, param))


def _texts(content: Sequence[Any], parts: dict[str, str], param: str) -> Iterator[str]:
    for place, part in enumerate(content):
        path = f"{param}[{place}]"
        kind = part.get("type") if isinstance(part, dict) else None
        if kind is None:
            raise missing(f"{path}.type")
        field = parts.get(kind) if isinstance(kind, str) else None
        if field is None:
            raise unsupported(f"{path}.type", f"must be one of {', '.join(parts)}: headrace reads text only")
        text = _PART.given(part, path).get(field)
        if not isinstance(text, str):
            raise wrong(f"{path}.{field}", "must be text")
        yield text
