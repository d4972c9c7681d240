"""A parameter that is one text or many: each is a job of its own."""

from typing import Any, Final

from headrace_workers.features.generation.openai.request import Body
from headrace_workers.http.openai_errors import missing, unsupported, wrong

_TOKENS: Final = "tokens are not taken: send text, which the model's own tokenizer reads"


def texts_of(asked: Body, name: str, most: int) -> list[tuple[str, str]]:
    """Return each text with its place in the request (`input`, or `input[3]`).

    Raise Refused for other values, or too many.

    A list of one is one text, at `input[0]`.
    """
    value = asked.get(name)
    if value is None:
        raise missing(name)
    if isinstance(value, str):
        return [(name, value)]
    if not isinstance(value, list | tuple) or not value:
        raise wrong(name, "must be text, or a list of at least one")
    if len(value) > most:
        raise wrong(name, f"at most {most} texts, not {len(value)}: send them in several requests, or as a batch")
    return [(path, _text(each, path)) for place, each in enumerate(value) for path in [f"{name}[{place}]"]]


def _text(value: Any, path: str) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, int | list):
        raise unsupported(path, _TOKENS)
    raise wrong(path, "must be text")
