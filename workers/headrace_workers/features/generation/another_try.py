"""Requests to a model for another answer: the message that it then gets, and the job's outcome if it cannot answer
again."""

from collections.abc import Mapping
from typing import Any, Final

from headrace_schemas import HeadraceError, Message
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Done, Retry

GENERATE: Final = "generate"  # the stage that the job goes back to
TURNS: Final = "turns"  # in the context of who has it asked: what it is told behind the conversation


def objected(answer: str, objection: str) -> dict[str, Any]:
    """Return the context for another try: the answer, and its fault."""
    return {TURNS: [{"role": "assistant", "content": answer}, {"role": "user", "content": objection}]}


def turns_in(context: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the turns in that context; none where the model is not asked again."""
    return tuple(Message.model_validate(each) for each in context.get(TURNS, ()))


def given_up(error: HeadraceError, done: Done) -> Done | Retry:
    """Let the job go on with its earlier answer, as `done` says: at once, or when there is no other try."""
    if not error.category.retryable:
        return done
    return Retry(reason_of(error), category=error.category, otherwise=done)
