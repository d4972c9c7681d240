"""The facts about a job so far, step by step, in a stable order: for streams of events. Pure."""

import json
import re
from dataclasses import dataclass
from typing import Final, Literal

from headrace_workers.cli.job_views import StepObject, job_json, state_of
from headrace_workers.core.ledger.job_status import Standing

ACCEPTED: Final = "accepted"
END: Final = "end"
_OVER: Final = frozenset({"done", "dead", "cancelled", "refused"})
_NUMBERED: Final = re.compile(r";([0-9]{1,9})$")  # an event's id: behind its fact's, its number in the stream


@dataclass(frozen=True, slots=True)
class Fact:
    """An event of a stream. `place` is what it is about; a later fact replaces an earlier one of the same place."""

    id: str
    event: Literal["accepted", "step", "end"]
    data: bytes
    place: str

    def sent(self, event_id: str) -> bytes:
        """Return it as server-sent events write it. JSON has no line feeds."""
        return b"id: %s\nevent: %s\ndata: %s\n\n" % (event_id.encode(), self.event.encode(), self.data)

    def event_id(self, last: str | None) -> str:
        """Return the id of its event, which comes after the event `last`. No two events of a stream have the same: a
        step may be in one state more than once, and so these are numbered, also where a client goes on.
        """
        if self.event != "step":
            return self.id
        before = _NUMBERED.search(last or "")
        return f"{self.id};{int(before[1]) + 1 if before else 1}"


def is_over(standing: Standing) -> bool:
    """Return True if the job has ended."""
    return state_of(standing) in _OVER


def facts_of(job_id: str, standing: Standing) -> list[Fact]:
    """Return the facts about a job: its acceptance, each of its steps in its present state, and its end."""
    facts = [Fact(ACCEPTED, "accepted", json.dumps({"id": job_id}, separators=(",", ":")).encode(), ACCEPTED)]
    for step in standing.steps:
        place = f"{step.stage}.{step.ordinal}"
        facts.append(
            Fact(f"{place}.{step.attempts}.{step.state}", "step", StepObject.of(step).model_dump_json().encode(), place)
        )
    if is_over(standing):
        facts.append(Fact(END, "end", job_json(job_id, standing), END))
    return facts


def news(facts: list[Fact], last: str | None) -> list[Fact]:
    """Return the facts after the event of this id, and changed facts at its place.

    A client that names no event of this job gets all facts.
    """
    if last is None:
        return facts
    last = last.partition(";")[0]
    for number, fact in enumerate(facts):
        if fact.id == last:
            return facts[number + 1 :]
    places = [number for number, fact in enumerate(facts) if last.startswith(f"{fact.place}.")]
    return facts[places[0] :] if places else facts
