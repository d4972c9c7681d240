"""Ends of answers before the model ends them: stop strings and limits that differ within one batch."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from headrace_schemas.limits import MAX_TEXT
from headrace_workers.models.generator import never

# Tokens decoded beyond the longest stop string, since a decoder treats the first of a text in its own way.
_MARGIN = 4


class Step(Protocol):
    """The fields that we read of ctranslate2.GenerationStepResult.

    Its `step` also counts prompt positions: of no use here.
    """

    @property
    def batch_id(self) -> int:
        """The row of the batch."""

    @property
    def token_id(self) -> int:
        """The token that the row has just got."""


@dataclass(slots=True)
class Row:
    """One answer while it grows: at most `limit` tokens, or until one of `stops` is in it, or it is `given_up`."""

    limit: int
    stops: tuple[str, ...]
    given_up: Callable[[], bool] = never
    is_given_up: bool = False  # it ended by that
    ids: list[int] = field(default_factory=list)
    window: int = field(init=False)  # a stop string that ends in the newest token begins within so many tokens

    def __post_init__(self) -> None:
        self.window = max((len(stop.encode()) for stop in self.stops), default=0) + _MARGIN


class Stopper:
    """CTranslate2's callback for one batch: True ends the row that the token belongs to. One thread at a time."""

    def __init__(self, rows: Sequence[Row], decode: Callable[[list[int]], str]) -> None:
        self._rows = rows
        self._decode = decode

    def __call__(self, step: Step) -> bool:
        return self.add(step.batch_id, step.token_id)

    def add(self, place: int, token: int) -> bool:
        """Give a row its next token; whether the row ends with it."""
        row = self._rows[place]
        if row.given_up():
            row.is_given_up = True
            return True
        row.ids.append(token)
        if len(row.ids) >= row.limit:
            return True
        if not row.stops:
            return False
        tail = self._decode(row.ids[-row.window :])
        return any(stop in tail for stop in row.stops)


def needs_stopper(rows: Sequence[Row]) -> bool:
    """Return True if the engine's own `max_length` is not enough for these rows."""
    return any(row.stops or row.given_up is not never for row in rows) or len({row.limit for row in rows}) > 1


def cut_at_stop(text: str, stops: Sequence[str]) -> tuple[str, bool]:
    """Return the text before the earliest stop string, and whether there was one."""
    found = [at for stop in stops if (at := text.find(stop)) >= 0]
    return (text[: min(found)], True) if found else (text, False)


def presentable(text: str) -> str:
    """Return the text as the contract takes it: without NUL, which databases refuse, and cut to MAX_TEXT."""
    return text.replace("\x00", "\ufffd")[:MAX_TEXT]
