"""An answer that may not be shown, where the policy has its model asked again; the job's context carries the count and
the tokens.
"""

from collections.abc import Mapping
from typing import Any, Final

from headrace_schemas import Answer, GenerationJob, HeadraceError, Message, Output, Usage
from headrace_workers.core.ledger.outcome import Done
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.cache.step import CONTEXT as RECALL
from headrace_workers.features.cache.step import GIVEN
from headrace_workers.features.generation.attempt import GENERATE, TURNS, objected, turns_in
from headrace_workers.features.moderation.detector import Moderation
from headrace_workers.models.structured.tools import said_in

MOST: Final = 2  # times, of one job
_CONTEXT: Final = "asked_again"
_TIMES: Final = "times"
_USED: Final = "used"  # tokens read and written by answers that may not be shown, since one was that may
_STOPPED: Final = "stopped"  # it cannot be asked again


def send_back(task: Task, output: Output, verdict: Moderation) -> Done | None:
    """Send the job back to its model; None where that is not allowed, or the answer is a person's or from the cache."""
    state = task.context.get(_CONTEXT, {})
    if (
        output.answer.by_person
        or not verdict.again
        or not isinstance(task.job, GenerationJob)
        or GIVEN in task.context.get(RECALL, {})
    ):
        return None
    if _STOPPED in state or state.get(_TIMES, 0) >= MOST:
        return None
    used, usage = state.get(_USED, (0, 0)), output.answer.usage
    changed = {
        _TIMES: state.get(_TIMES, 0) + 1,
        _USED: [used[0] + usage.prompt_tokens, used[1] + usage.completion_tokens],
        **objected(said_in(output.answer), _objection(verdict)),
    }
    return Done(to=GENERATE, model=output.answer.model, context={_CONTEXT: changed})


def turns(context: Mapping[str, Any]) -> tuple[Message, ...]:
    """Return the turns after the conversation: the last answer, and the reason why it may not be shown."""
    return turns_in(context.get(_CONTEXT, {}))


def without_another(context: Mapping[str, Any], _error: HeadraceError) -> Done | None:
    """Return the end, withheld, of a job whose model cannot answer again; None if it was not asked again."""
    state = context.get(_CONTEXT, {})
    if TURNS not in state:
        return None
    return Done(context={_CONTEXT: {**state, _STOPPED: True}})


def whole(context: Mapping[str, Any], answer: Answer) -> tuple[Answer, Mapping[str, Any]]:
    """Return the answer that goes on, with the tokens of the earlier ones, and the job's further context."""
    state = context.get(_CONTEXT, {})
    if _USED not in state:
        return answer, {}
    read, written = state[_USED]
    if _STOPPED not in state:  # else this answer is among them
        read, written = read + answer.usage.prompt_tokens, written + answer.usage.completion_tokens
    usage = Usage(prompt_tokens=read, completion_tokens=written)
    return answer.model_copy(update={"usage": usage}), {_CONTEXT: {_TIMES: state[_TIMES]}}


def _objection(verdict: Moderation) -> str:
    named = sorted(name.replace("_", " ") for name, objected in verdict.verdict.categories.items() if objected)
    return (
        f"That answer cannot be shown. What is in it that may not be: {', '.join(named)}. "
        "Answer again without that. Write the new answer alone, without a word about the old one."
    )
