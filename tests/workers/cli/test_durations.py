from datetime import UTC, datetime, timedelta

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.cli.durations import parse_duration, parse_time, show_ms

NOW = datetime(2026, 11, 24, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("90s", 90), ("10m", 600), ("1h30m", 5400), ("2d", 172_800), ("250ms", 0.25), ("1.5h", 5400), ("45", 45)],
)
def test_durations_are_read(text: str, seconds: float):
    assert parse_duration(text) == timedelta(seconds=seconds)


@pytest.mark.parametrize("text", ["", "m", "10 minutes", "-5m", "1h-2m", "1y", "9" * 400 + "d"])
def test_what_is_no_duration_is_refused(text: str):
    with pytest.raises(ConfigurationError, match="duration"):
        parse_duration(text)


def test_a_duration_as_a_time_counts_back():
    """`--since 2h` is two hours before now."""
    assert parse_time("2h", NOW) == NOW - timedelta(hours=2)


def test_a_time_with_a_zone_is_taken_as_it_is():
    assert parse_time("2026-11-24T10:00:00+01:00", NOW) == datetime(2026, 11, 24, 9, tzinfo=UTC)


def test_a_time_without_a_zone_is_local():
    """People mean the clock on their wall."""
    assert parse_time("2026-11-24T10:00", NOW) == datetime(2026, 11, 24, 10).astimezone()


@pytest.mark.parametrize("text", ["yesterday", "2026-13-01", "999999999d"])
def test_what_is_no_time_is_refused(text: str):
    with pytest.raises(ConfigurationError, match="neither a duration"):
        parse_time(text, NOW)


@pytest.mark.parametrize(
    ("ms", "shown"),
    [
        (None, "–"), (3, "3 ms"), (1_240, "1.2 s"), (245_000, "4 min 05 s"), (12_000_000, "3 h 20 min"),
        (183_600_000, "2 d 3 h"),
    ],
)  # fmt: skip
def test_durations_are_shown_short(ms: float | None, shown: str):
    assert show_ms(ms) == shown
