"""A record as it was consumed, and what can be read of it when it is refused. Pure."""

import re
from dataclasses import dataclass

from headrace_schemas import Topic
from headrace_schemas.review import Review

_KEPT_HEADERS = 64
_KEPT_CHARACTERS = 1024  # of a header's name, and of its value
_KEPT_BYTES = 1024  # of what a letter is looked up by: more than an index of PostgreSQL takes would stop ingest
_CONTROL = re.compile(r"[\x00-\x1f\x7f-\x9f]")  # no attribute of an event may hold one, nor that of a letter


@dataclass(frozen=True, slots=True)
class Record:
    """A record as it was consumed. `timestamp` (ms) is the one that its log keeps, the same at every reading.

    `unreadable` says why the consumer could not read it: then `value` is the batch that it is in.
    """

    topic: Topic
    partition: int
    offset: int
    headers: tuple[tuple[str, bytes | None], ...]
    value: bytes | None
    timestamp: int = 0
    key: bytes | None = None
    unreadable: str | None = None

    def header(self, name: str) -> str | None:
        """Return a header as text, the last of its name, cut and with what is no text replaced; None when it is not
        there.
        """
        found = [value for header, value in self.headers if header == name]
        return _legible(found[-1]) if found and found[-1] is not None else None

    @property
    def key_text(self) -> str | None:
        """Return the key as text, as `header` gives it."""
        return None if self.key is None else _legible(self.key)

    def shown_headers(self) -> dict[str, str]:
        """Return a bounded part of the headers, for people to see and for a replay."""
        return {
            name[:_KEPT_CHARACTERS]: (value or b"").decode("utf-8", "replace")[:_KEPT_CHARACTERS]
            for name, value in self.headers[:_KEPT_HEADERS]
        }


@dataclass(frozen=True, slots=True)
class ReceivedReview:
    """A person's review of a job, and the record that brought it."""

    review: Review
    record: Record
    traceparent: str | None = None


def _legible(value: bytes) -> str:
    text = _CONTROL.sub("\ufffd", value[:_KEPT_BYTES].decode("utf-8", "replace"))
    return text.encode()[:_KEPT_BYTES].decode("utf-8", "ignore")
