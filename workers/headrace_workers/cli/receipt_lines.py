"""A receipt: the end of one job, as a line of JSON for programs and as fields for people. Pure."""

import json
from dataclasses import dataclass
from typing import Any, Self

from headrace_schemas import DeadLetter, JobCancelled, Result
from headrace_schemas.codec import decode_value, encode_value
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.event_types import type_of

End = Result | JobCancelled | DeadLetter

# Every line that we write begins so: by this a torn last line is known for ours.
LINE_START = b'{"line":'


@dataclass(frozen=True, slots=True)
class Receipt:
    """The end of a job; `line` is the line of the input file with the job, if there is one."""

    event: End
    line: int | None = None

    @classmethod
    def decode(cls, event_type: str, value: bytes, line: int | None = None) -> Self:
        """Return the receipt of an event from the ledger or Kafka. Raise InvalidRecord if it does not end a job."""
        event = decode_value(event_type, value)
        if not isinstance(event, End):
            raise InvalidRecord(f"{event_type} is no end of a job")
        return cls(event, line)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Return the receipt of a line that `to_json` wrote. Raise InvalidRecord, which says what is wrong with it."""
        try:
            fields = json.loads(text)
            line, event_type = fields.pop("line", None), fields.pop("type")
        except (ValueError, AttributeError, KeyError, TypeError):
            raise InvalidRecord("it is no JSON object with a `type`") from None
        if not isinstance(event_type, str) or not (line is None or isinstance(line, int)):
            raise InvalidRecord("`type` must be a string and `line` a number")
        return cls.decode(event_type, json.dumps(fields).encode(), line)

    def to_json(self) -> bytes:
        """Return one line without its line feed: the published event, with its type and the input's line."""
        head: dict[str, Any] = {} if self.line is None else {"line": self.line}
        head["type"] = type_of(self.event)
        body = encode_value(self.event)
        return json.dumps(head, separators=(",", ":")).encode()[:-1] + b"," + body[1:]

    @property
    def job_id(self) -> str | None:
        """The job, also if it was refused; None if the receipt does not name it."""
        if isinstance(self.event, DeadLetter):
            return self.event.concerns
        return self.event.job_id

    @property
    def status(self) -> str:
        """completed, blocked, dead or cancelled."""
        if isinstance(self.event, Result):
            return self.event.status
        return "dead" if isinstance(self.event, DeadLetter) else "cancelled"

    @property
    def text(self) -> str | None:
        """The visible part of the model's answer; None if there is none, or moderation withheld it."""
        answer = self.event.answer if isinstance(self.event, Result) else None
        return answer.text if answer else None

    @property
    def refused(self) -> bool:
        """Return True if this is about a record that admission refused, and so does not end a job."""
        return isinstance(self.event, DeadLetter) and self.event.job_id is None

    @property
    def answered(self) -> bool:
        """Return True if the job has a result, even one that moderation withheld."""
        return isinstance(self.event, Result)
