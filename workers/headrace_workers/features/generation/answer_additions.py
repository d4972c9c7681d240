"""Additions of features to how a model answers a job, from the context that their stages left in the job."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, TypeAlias

from headrace_schemas import GenerationJob, HeadraceError, Message
from headrace_workers.core.ledger.outcome import Done, StepWrite
from headrace_workers.features.generation.feature import ANSWERING

Context: TypeAlias = Mapping[str, Any]


def _none(*_: Any) -> None:
    pass


def _empty(*_: Any) -> tuple[()]:
    return ()


def _no_fields(*_: Any) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True, slots=True, kw_only=True)
class Answering:
    """Additions of one feature; each part is a pure function.

    `conversation(job, context)` returns the messages that the model reads instead of the job's, or None. The messages
    of `turns` follow them. `without_another(context, error)` returns how a job goes on whose model cannot answer
    again, or None if the feature did not send the job back. `answer_fields(context, text)` returns fields of the
    `Answer` with this text. `rows` returns the rows that are written with it.

    A job without a context has no additions: these are not called.

    Of two features, the later in `FEATURES` sets a field last, and decides first about a job that is not answered.
    """

    conversation: Callable[[GenerationJob, Context], tuple[Message, ...] | None] = _none
    turns: Callable[[Context], tuple[Message, ...]] = _empty
    without_another: Callable[[Context, HeadraceError], Done | None] = _none
    answer_fields: Callable[[Context, str], Mapping[str, Any]] = _no_fields
    rows: Callable[[Context, str], tuple[StepWrite, ...]] = _empty


@cache
def answering() -> tuple[Answering, ...]:
    """Return the additions of all features, in their order."""
    return ANSWERING.values()
