"""Times as people write and read them. Pure: the present is handed in."""

import re
from datetime import UTC, datetime, timedelta
from typing import Annotated

from pydantic import PlainSerializer, WithJsonSchema

from headrace_schemas.errors import ConfigurationError

_CENTURY = timedelta(days=36_500)
_UNITS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0, "w": 604_800.0}
_DURATION = re.compile(r"(?:\d+(?:\.\d+)?(?:ms|[smhdw]))+")
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smhdw])")


def parse_duration(text: str) -> timedelta:
    """Return a duration such as `90s`, `10m`, `1h30m` or `2d`; a bare number is in seconds. Raise ConfigurationError
    otherwise.
    """
    cleaned = text.strip().lower()
    if cleaned.replace(".", "", 1).isdecimal():
        cleaned += "s"
    if not _DURATION.fullmatch(cleaned):
        raise ConfigurationError(f"{text!r} is not a duration: write 90s, 10m, 1h30m or 2d")
    try:
        return timedelta(seconds=sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(cleaned)))
    except OverflowError:
        raise ConfigurationError(f"{text!r} is too long: write a shorter duration, such as 30d") from None


def parse_life(text: str, option: str, *, none: bool = False) -> timedelta:
    """Return a lifetime of at most a century. Raise ConfigurationError otherwise, and for zero except with `none`."""
    duration = parse_duration(text)
    if duration > _CENTURY or not (duration or none):
        least = "0 or more" if none else "more than 0"
        raise ConfigurationError(f"{option} is {text!r}; it must be {least} and at most {_CENTURY.days}d")
    return duration


def parse_time(text: str, now: datetime) -> datetime:
    """Return a point in time: a duration before `now` (`10m`), or ISO 8601, in local time where it names no zone."""
    cleaned = text.strip()
    try:
        return now - parse_duration(cleaned)
    except (ConfigurationError, OverflowError):
        pass
    try:
        return datetime.fromisoformat(cleaned).astimezone(UTC)
    except (ValueError, OverflowError):
        raise ConfigurationError(
            f"{text!r} is neither a duration (10m, 2h, 3d) nor a time (2026-11-24T09:30, 2026-11-24)"
        ) from None


def milliseconds(time: datetime) -> int:
    """Return milliseconds since 1970, as the ledger counts."""
    return int(time.timestamp() * 1000)


def rfc3339(ms: int | None) -> str | None:
    """Return a point in time as events tell it, for `--json`: UTC, to the millisecond."""
    if ms is None:
        return None
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


# A point in time as a field of a view: ms since 1970, which its JSON tells as events do.
Moment = Annotated[
    int | None,
    PlainSerializer(rfc3339, return_type=str | None, when_used="json"),
    WithJsonSchema({"anyOf": [{"type": "string", "format": "date-time"}, {"type": "null"}]}, mode="serialization"),
]


def show_ms(value: float | None) -> str:
    """Return a duration in ms, short: `3 ms`, `1.2 s`, `4 min 05 s`, `3 h 20 min`, `2 d 3 h`."""
    if value is None:
        return "–"
    if value < 1_000:
        return f"{value:.0f} ms"
    if value < 60_000:
        return f"{value / 1000:.1f} s"
    minutes, seconds = divmod(round(value / 1000), 60)
    if minutes < 60:
        return f"{minutes} min {seconds:02d} s"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes:02d} min"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h"


def show_time(ms: int | None) -> str:
    """Return a point in time in local time, to the second."""
    if ms is None:
        return "–"
    return datetime.fromtimestamp(ms / 1000, UTC).astimezone().strftime("%Y-%m-%d %H:%M:%S")


def show_seconds(seconds: int | None) -> str:
    """Show seconds since 1970, as views have them, in local time."""
    return show_time(None if seconds is None else seconds * 1000)
