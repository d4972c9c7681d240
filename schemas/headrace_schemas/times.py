"""Points in time as RFC 3339 has them: `2026-01-31T12:00:00Z`. Never without a zone, never a bare number."""

import re
from datetime import UTC, datetime
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BeforeValidator, WithJsonSchema

# No leap second: neither Python's time nor a database's knows one. ECMA-262's syntax, as JSON Schema wants it.
PATTERN: Final = (
    r"^(?!0000)[0-9]{4}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])[Tt ]([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9]"
    r"(\.[0-9]{1,9})?([Zz]|[+-]([01][0-9]|2[0-3]):[0-5][0-9])$"
)
ADVICE: Final = "must be an RFC 3339 time with a zone, such as 2026-01-31T12:00:00Z"

_PATTERN = re.compile(PATTERN.removesuffix("$"))


def parse_time(text: str) -> datetime:
    """Return the time in UTC; ValueError says what is wrong with it."""
    if not _PATTERN.fullmatch(text):
        raise ValueError(ADVICE)
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except OverflowError as error:
        raise ValueError("lies outside of the years 1 to 9999") from error
    except ValueError as error:  # such as the 30th of February
        raise ValueError(f"is no day or time that there is ({error})") from error


def _time(value: Any) -> Any:
    return parse_time(value) if isinstance(value, str) else value


Time = Annotated[
    AwareDatetime,
    BeforeValidator(_time),
    WithJsonSchema({"type": "string", "format": "date-time", "pattern": PATTERN}),
]
