"""From the ledger's dead letters to rows and to JSON. Pure."""

import base64
import json
from typing import Any

from headrace_workers.cli.durations import show_time
from headrace_workers.cli.tables import shorten

COLUMNS = ("job", "category", "stage", "attempts", "died", "reason")
_REASON_WIDTH = 120


def letter_row(letter: Any) -> tuple[str, ...]:
    """A dead letter as the cells of `COLUMNS`."""
    return (
        letter.job_id or letter.id,  # either names it
        letter.category,
        letter.stage,
        str(letter.attempts),
        show_time(letter.died_at) + (" (replayed)" if letter.replayed_at else ""),
        shorten(letter.reason, _REASON_WIDTH),
    )


def letter_dict(letter: Any) -> dict[str, Any]:
    """A dead letter for `--json`, without the original. Times in ms since 1970."""
    return {
        "id": letter.id,
        "job_id": letter.job_id,
        "refers_to": letter.refers_to,
        "tenant": letter.tenant,
        "category": letter.category,
        "reason": letter.reason,
        "stage": letter.stage,
        "attempts": letter.attempts,
        "topic": letter.topic,
        "died_at": letter.died_at,
        "replayed_at": letter.replayed_at,
        "bytes": len(letter.value),
        "cut": bool(letter.truncated),
    }


def original(letter: Any) -> dict[str, Any]:
    """The record as it came: its headers, and its value as text, or as base64 where it is no text."""
    value = bytes(letter.value)
    try:
        text, encoding = value.decode(), "utf-8"
    except UnicodeDecodeError:
        text, encoding = base64.b64encode(value).decode(), "base64"
    return {"headers": json.loads(letter.headers), "original": text, "encoding": encoding}
