"""Where words go: data to standard output, words for people to standard error. Neither needs a terminal."""

import json
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

_PLAIN_WIDTH = 160  # of a table that goes into a file or a pipe


def say(message: str) -> None:
    """A word for people."""
    sys.stderr.write(f"{message}\n")
    sys.stderr.flush()


def hush_kafka() -> None:
    """Leave out what kafka-python logs of a broker that is away: what matters is told by our own errors."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def put(line: str) -> None:
    """One line of data."""
    sys.stdout.write(f"{line}\n")


def put_bytes(line: bytes) -> None:
    """One line of data that is bytes already, whatever the terminal's encoding is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(line + b"\n")


def put_json(value: Any) -> None:
    """One JSON document on one line."""
    put(json.dumps(value, ensure_ascii=False, default=str))


def flush() -> None:
    """Hand over what was put, so that the next program in a pipe has it."""
    sys.stdout.flush()


def console(*, data: bool = False) -> "Console":
    """A rich console on standard error, or on standard output for data."""
    from rich.console import Console

    made = Console(stderr=not data, highlight=False, soft_wrap=False)
    if not made.is_terminal:
        made = Console(stderr=not data, highlight=False, width=max(made.width, _PLAIN_WIDTH))
    return made


def table(
    title: str | None,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
    clip: Sequence[str] = (),
) -> "Table":
    """A table whose cells are plain text, whatever is in them.

    `right` names the columns of numbers, `whole` those that are never broken (ids), `clip` those that are cut to fit.
    """
    from rich import box
    from rich.table import Table
    from rich.text import Text

    drawn = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    for name in columns:
        drawn.add_column(
            name,
            justify="right" if name in right else "left",
            overflow="ellipsis" if name in clip else "fold",
            no_wrap=name in whole or name in clip,
        )
    for cells in rows:
        # Text, not markup: an answer with [brackets] is no instruction to the terminal; nor is a control character.
        drawn.add_row(*(Text(printable(cell)) for cell in cells))
    return drawn


def printable(text: str) -> str:
    """The text without control characters: what a model or a user wrote must not steer anyone's terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)
