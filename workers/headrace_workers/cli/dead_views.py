"""Rows and JSON of the ledger's dead letters. Pure."""

import base64
import json
from typing import Any

from headrace_workers.cli.durations import rfc3339, show_time
from headrace_workers.cli.tables import shorten

COLUMNS = ("letter", "job", "category", "stage", "attempts", "died", "reason")
WHOLE = ("letter", "job")
_REASON_WIDTH = 120
# The fields that a refused record gave about itself, under the event's names.
_ORIGIN = ("partition", "offset", "key", "ce_id", "ce_subject", "correlationid", "traceparent")


def letter_row(letter: Any) -> tuple[str, ...]:
    """Return a dead letter as the cells of `COLUMNS`. A refused record has the job id that it would have had."""
    return (
        letter.id,
        letter.job_id or letter.refers_to or "",
        letter.failure or letter.code or letter.category,
        letter.stage,
        str(letter.attempts),
        show_time(letter.died_at) + (" (replayed)" if letter.replayed_at else ""),
        shorten(letter.reason, _REASON_WIDTH),
    )


def letter_dict(letter: Any) -> dict[str, Any]:
    """Return a dead letter for `--json` without the original. Names and times (RFC 3339) come from the event.

    `truncated` is true if the ledger's copy of the original is cut, so that it cannot be replayed.
    """
    return {
        "id": letter.id,
        "job_id": letter.job_id,
        "refers_to": letter.refers_to,
        "tenant": letter.tenant,
        "category": letter.category,
        "code": letter.code,
        "reason": letter.reason,
        "failure": letter.failure,
        "place": letter.place,
        "stage": letter.stage,
        "attempts": letter.attempts,
        "topic": letter.topic,
        **{name: getattr(letter, name) for name in _ORIGIN},
        "died_at": rfc3339(letter.died_at),
        "replayed_at": rfc3339(letter.replayed_at),
        "size": letter.size,
        "truncated": bool(letter.truncated),
    }


def original(letter: Any) -> dict[str, Any]:
    """Return the original record: its headers, and its value as text, or as base64 if it is not text."""
    value = bytes(letter.value)
    try:
        text, encoding = value.decode(), "utf-8"
    except UnicodeDecodeError:
        text, encoding = base64.b64encode(value).decode(), "base64"
    return {"headers": json.loads(letter.headers), "original": text, "encoding": encoding}
