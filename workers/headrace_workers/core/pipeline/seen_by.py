"""The providers that saw the text of a job, as its context carries them to the receipt."""

from collections.abc import Mapping
from typing import Any, Final

from headrace_schemas import Answer, JudgeVerdict
from headrace_workers.core.pipeline.chain import tried_in
from headrace_workers.core.ports import OWN

_SEEN: Final = "seen_by"  # the name in the context of a step


def seen_by(context: Mapping[str, Any], *providers: str | None) -> dict[str, Any]:
    """Return the context that adds these providers; nothing where none of them is new. None and `own` are left out."""
    others = {each for each in providers if each not in (None, OWN)}
    if not others:
        return {}
    before = set(context.get(_SEEN, ()))
    now = before | others
    return {} if now == before else {_SEEN: sorted(now)}


def all_that_saw(context: Mapping[str, Any], answer: Answer | None, judge: JudgeVerdict | None) -> tuple[str, ...]:
    """Return every provider that the text was sent to, for the receipt with this answer and this verdict."""
    providers = [each.provider for each in tried_in(context)]
    if answer is not None:
        providers += [answer.provider, *(each.provider for each in answer.attempts)]
    if judge is not None:
        providers += [each.provider for each in judge.scores]
    found = {**context, **seen_by(context, *providers)}.get(_SEEN, ())
    return tuple(found)
