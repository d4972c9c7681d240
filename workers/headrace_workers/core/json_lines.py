"""JSON lines: where each begins, and why one cannot be read."""

import json
import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, BinaryIO, NamedTuple

BOM = b"\xef\xbb\xbf"
_SKIPPED_AT_ONCE = 1024**2  # bytes
_LISTED = 20  # problems
_LONGEST_NAME = 64  # characters of a name in an error


class Line(NamedTuple):
    """A line with something in it: its number from 1, where it begins, and what it holds."""

    number: int
    offset: int
    text: bytes


class Read(NamedTuple):
    """A line as it stands, empty or not, and where the next begins. `too_long`: of such a line only the beginning."""

    number: int
    end: int
    text: bytes
    too_long: bool = False

    @property
    def is_empty(self) -> bool:
        """Return True if the line is empty."""
        return not self.text.strip()


class LineTooLong(ValueError):
    """Line `number` exceeds the limit; the lines after it were not read."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class NoJSON(ValueError):
    """The reason why a line is no JSON."""


def lines(stream: BinaryIO, longest: int) -> Iterator[Line]:
    """Yield the lines from the beginning of a stream, of `longest` bytes at most, one in memory. LineTooLong."""
    start = 0
    for line in read_on(stream, longest):
        if line.too_long:
            raise LineTooLong(line.number)
        if not line.is_empty:
            yield Line(line.number, start, line.text)
        start = line.end


def read_on(stream: BinaryIO, longest: int, position: int = 0, number: int = 0) -> Iterator[Read]:
    """Yield all lines of a stream that stands at `position`, after the line `number`. Memory holds one line of at most
    `longest` bytes: longer lines are skipped.
    """
    while text := stream.readline(longest + 1):
        number += 1
        position += len(text)
        too_long = len(text) > longest
        if too_long and not text.endswith(b"\n"):
            while rest := stream.readline(_SKIPPED_AT_ONCE):
                position += len(rest)
                if rest.endswith(b"\n"):
                    break
        yield Read(number, position, text.removeprefix(BOM) if number == 1 else text, too_long)


class NamedTwice(ValueError):
    """An object of JSON has a name twice: its value is ambiguous."""


def parsed(text: bytes) -> Any:
    """Return the value that a line holds. NoJSON."""
    try:
        # Decoded here, since json.loads guesses the encoding, and reads UTF-16 in one line and refuses it in the next.
        written = text.decode("utf-8-sig", "surrogatepass")
        return json.loads(written, object_pairs_hook=named_once, parse_constant=_refuse, parse_float=finite)
    except (NamedTwice, NoJSON) as error:
        raise NoJSON(f"it is no JSON that can be read: {error}") from None
    except UnicodeDecodeError as error:
        raise NoJSON(f"it is no UTF-8 (byte {error.start + 1}){_written_as(text)}") from None
    except json.JSONDecodeError as error:
        raise NoJSON(f"it is no JSON: {error.msg} at character {error.pos + 1}{_written_as(text)}") from None
    except (ValueError, RecursionError) as error:
        raise NoJSON(f"it is no JSON that can be read: {type(error).__name__}") from None


def parsed_object(text: bytes) -> dict[str, Any]:
    """Return the JSON object that a line holds. Raise NoJSON if the line is not a JSON object."""
    value = parsed(text)
    if not isinstance(value, dict):
        raise NoJSON(f"it must be a JSON object, not {_kind(value)}")
    return value


def _kind(value: object) -> str:
    return {list: "a list", str: "a string", bool: "true or false", type(None): "null"}.get(type(value), "a number")


def _written_as(text: bytes) -> str:
    """Return the format that the text may have instead. No JSON has a byte of 0, and UTF-16 is full of them."""
    return ", but looks like UTF-16 or UTF-32: write the file as UTF-8" if b"\0" in text else ""


def named_once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of JSON, for `json.loads`. NamedTwice."""
    found = dict(pairs)
    if len(found) < len(pairs):
        twice = Counter(name for name, _ in pairs).most_common(1)[0][0]
        raise NamedTwice(f"{twice[:_LONGEST_NAME]!r} is named twice: its value is ambiguous")
    return found


def finite(number: str) -> float:
    """Return a number of JSON with a fraction or an exponent, for `json.loads`. NoJSON where none here is as large:
    written again it would be Infinity, which is no JSON.
    """
    value = float(number)
    if math.isinf(value):
        raise NoJSON(f"{number[:_LONGEST_NAME]} is larger than any number can be here")
    return value


def _refuse(constant: str) -> Any:
    raise NoJSON(f"{constant} is no number to JSON: write null, or leave it out")


def listed(problems: Sequence[str], count: int | None = None) -> str:
    """Return the first of these problems, one a line, and how many more of the `count` there are."""
    count = len(problems) if count is None else count
    more = f"\nand {count - _LISTED:,} more" if count > _LISTED else ""
    return "\n".join(problems[:_LISTED]) + more
