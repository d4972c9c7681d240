"""JSON lines: where each begins, and why one cannot be read, whatever is made of them."""

import json
from collections.abc import Iterator
from typing import Any, BinaryIO, NamedTuple

BOM = b"\xef\xbb\xbf"


class Line(NamedTuple):
    """A line with something in it: its number from 1, where it begins in the file, and what it holds."""

    number: int
    offset: int
    text: bytes


class LineTooLong(ValueError):
    """The `number` of a line that is longer than lines may be; what follows was not read."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number


class NoJSON(ValueError):
    """The reason why a line is no JSON."""


def lines(stream: BinaryIO, longest: int) -> Iterator[Line]:
    """The lines from the beginning of a stream, of `longest` bytes at most, one in memory. LineTooLong."""
    number, offset = 0, 0
    while text := stream.readline(longest + 1):
        number += 1
        start, offset = offset, offset + len(text)
        if len(text) > longest:
            raise LineTooLong(number)
        content = text.removeprefix(BOM) if number == 1 else text
        if content.strip():
            yield Line(number, start, content)


def parsed(text: bytes) -> Any:
    """The value that a line holds. NoJSON."""
    try:
        return json.loads(text)
    except UnicodeDecodeError as error:
        raise NoJSON(f"it is no UTF-8 (byte {error.start + 1})") from None
    except json.JSONDecodeError as error:
        raise NoJSON(f"it is no JSON: {error.msg} at character {error.pos + 1}") from None
    except (ValueError, RecursionError) as error:
        raise NoJSON(f"it is no JSON that can be read: {type(error).__name__}") from None
