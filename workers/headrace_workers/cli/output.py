"""Output: data goes to standard output, words for people to standard error. Neither needs a terminal."""

import json
import logging
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final

from pydantic import BaseModel

from headrace_schemas.errors import HeadraceError
from headrace_workers.cli.layout import Rows

if TYPE_CHECKING:
    from rich.console import Console

_PLAIN_WIDTH = 100  # of a table that goes into a file or a pipe
# Characters that steer a terminal: all of C0 but tabs and line feeds, DEL, and C1.
_CONTROLS: Final = dict.fromkeys({*range(32), *range(127, 160)} - {9, 10}, "\N{REPLACEMENT CHARACTER}")


class NoSuchThing(HeadraceError):
    """A name of nothing that there is. The exit code of every command is 1 for it."""


def say(message: str) -> None:
    """Print a message for people, which may quote a model or a user."""
    sys.stderr.write(f"{without_controls(message)}\n")
    sys.stderr.flush()


def hush_kafka() -> None:
    """Silence kafka-python's log about an unreachable broker: our own errors say what matters."""
    logging.getLogger("kafka").setLevel(logging.CRITICAL)


def put(line: str) -> None:
    """Print one line of data."""
    sys.stdout.write(f"{line}\n")


def put_bytes(line: bytes) -> None:
    """Print one line of data that is bytes already, whatever the terminal's encoding is."""
    sys.stdout.flush()
    sys.stdout.buffer.write(line + b"\n")


def put_json(value: Any) -> None:
    """Print a JSON document on one line."""
    put(json.dumps(value, ensure_ascii=False, default=str))


def put_view(view: BaseModel) -> None:
    """Print a read model as one JSON document on one line: what HTTP answers, too."""
    put_json(view.model_dump(mode="json"))


def flush() -> None:
    """Flush standard output, so that the next program in a pipe has it."""
    sys.stdout.flush()


def console(*, data: bool = False) -> "Console":
    """Return a rich console on standard error, or on standard output for data."""
    from rich.console import Console

    # `soft_wrap`: a word that is wider than the terminal is neither cut nor broken.
    made = Console(stderr=not data, highlight=False, soft_wrap=True)
    if not made.is_terminal:
        made = Console(stderr=not data, highlight=False, soft_wrap=True, width=max(made.width, _PLAIN_WIDTH))
    return made


def table(
    title: str | None,
    columns: Sequence[str],
    rows: Iterable[Sequence[str]],
    *,
    right: Sequence[str] = (),
    whole: Sequence[str] = (),
    clip: Sequence[str] = (),
    uncut: Sequence[int] = (),
) -> Rows:
    """Return a table whose cells are plain text, whatever they contain: see `Rows`."""
    return Rows(title, columns, [[printable(cell) for cell in cells] for cells in rows], right, whole, clip, uncut)


def printable(text: str) -> str:
    """Return the text without control characters, so that a model's or a user's text cannot steer a terminal."""
    return "".join(c if c.isprintable() or c == "\n" else "\N{REPLACEMENT CHARACTER}" for c in text)


def without_controls(text: str) -> str:
    """Return a text of many lines for people, without what would steer the terminal that it is shown on, now or later.
    All other characters stay.
    """
    return text.replace("\r\n", "\n").translate(_CONTROLS)
