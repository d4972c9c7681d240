from datetime import UTC, datetime

import pytest

from headrace_schemas import GenerationJob
from headrace_schemas.codec import decode_value
from headrace_schemas.times import parse_time


def deadline(text: str) -> datetime | None:
    job = decode_value("headrace.job.generation.v1", f'{{"model": "m", "prompt": "p", "deadline": "{text}"}}'.encode())
    assert isinstance(job, GenerationJob)
    return job.deadline


@pytest.mark.parametrize(
    ("text", "time"),
    [
        ("2026-01-31T12:00:00Z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31 12:00:00z", datetime(2026, 1, 31, 12, tzinfo=UTC)),
        ("2026-01-31T12:00:00.5+05:30", datetime(2026, 1, 31, 6, 30, 0, 500_000, UTC)),
        ("2026-01-31t12:00:00.123456789-00:00", datetime(2026, 1, 31, 12, 0, 0, 123_456, UTC)),
        ("9999-12-31T23:59:59Z", datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)),
    ],
)
def test_rfc_3339_is_read(text: str, time: datetime) -> None:
    """As Go, Java and JavaScript write it; in a header and in a job alike, and in UTC ever after."""
    assert parse_time(text) == deadline(text) == time
    assert parse_time(text).tzinfo is UTC


@pytest.mark.parametrize(
    "text",
    ["", "5", "1800000000", "2026-01-31", "2026-01-31T12:00Z", "2026-01-31T12:00:00", "2026-01-31T24:00:00Z",
     "2026-01-31T23:59:60Z", "2026-02-30T00:00:00Z", "0000-01-01T00:00:00Z", "2026-W05-1T00:00:00Z", "20260131T120000Z",
     "2026-01-31T12:00:00+0530", "2026-01-31T12:00:00Z ", "2026-01-31T12:00:00.Z", "٢٠٢٦-01-31T12:00:00Z",
     "0001-01-01T00:00:00+14:00", "9999-12-31T23:59:59-14:00"],
)  # fmt: skip
def test_what_is_no_such_time_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"RFC 3339|no day or time|outside of the years"):
        parse_time(text)
    with pytest.raises(Exception, match=r"^deadline: "):
        deadline(text)
