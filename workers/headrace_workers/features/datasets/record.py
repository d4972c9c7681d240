"""A line of training data, and the text in it."""

from typing import Any, Final

from headrace_workers.core.json_lines import NoJSON, parsed

_FIELDS: Final = ("text", "prompt", "completion", "input", "output", "instruction", "response", "question", "answer")


class Unreadable(ValueError):
    """The reason why a line is no record."""


def text_of(line: bytes, field: str | None = None) -> str:
    """Return the text of a record: of `field`, else of its messages, else of the fields that are customary in training
    data.

    Raises Unreadable.
    """
    try:
        record = parsed(line)
    except NoJSON as error:
        raise Unreadable(str(error)) from None
    if not isinstance(record, dict):
        raise Unreadable("it is no JSON object")
    if field is not None:
        if not isinstance(record.get(field), str):
            raise Unreadable(f"it has no text in its field {field!r}")
        return str(record[field])
    if (messages := record.get("messages")) is not None:
        return _of_messages(messages)
    found = [record[name] for name in _FIELDS if isinstance(record.get(name), str)]
    if not found:
        raise Unreadable(f"it has no text: neither messages nor {', '.join(_FIELDS)}; --field names another")
    return "\n".join(found)


def _of_messages(messages: Any) -> str:
    if not isinstance(messages, list) or not messages:
        raise Unreadable("its messages are no list with something in it")
    texts = [each.get("content") if isinstance(each, dict) else None for each in messages]
    if not all(isinstance(text, str) for text in texts):
        raise Unreadable("one of its messages has no content that is a text")
    return "\n".join(map(str, texts))
