"""What must be true of a history, each rule one function that lists its violations; and the tally of all of them."""

import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from tests.chaos.history import Event, History, JobRow

RESULT, CANCELLED, DEAD = "headrace.result.v1", "headrace.job.cancelled.v1", "headrace.dead.v1"
ENDS = {"done": RESULT, "cancelled": CANCELLED, "dead": DEAD}  # a job's state in the ledger: the event that says so
STAGE_TOPICS = ("outputs", "moderated")

_SHOWN = 5  # violations of one rule that a report spells out

Rule = Callable[[History], Iterator[str]]


def every_published_job_is_known(history: History) -> Iterator[str]:
    """What the broker confirmed was taken in, or refused with a dead letter."""
    for job_id in sorted(history.published - {row.id for row in history.jobs} - history.refused):
        yield f"{job_id} was published, and the ledger has never heard of it"


def every_job_ended(history: History) -> Iterator[str]:
    """No accepted job is still under way."""
    for row in history.jobs:
        if row.state not in ENDS:
            yield f"{row.id} is {row.state}"


def one_terminal_record_per_job(history: History) -> Iterator[str]:
    """Each accepted job has exactly one end, however often that event was published."""
    ends = _terminals(history)
    for row in history.jobs:
        ids = {event.id for event in ends[row.id]}
        if len(ids) != 1:
            kinds = ", ".join(sorted(f"{event.type} {event.id}" for event in ends[row.id])) or "none"
            yield f"{row.id} has {len(ids)} terminal records: {kinds}"
    for event in history.events:
        if event.job_id and event.refers_to:
            yield f"{event.id} ends {event.job_id}, and is about a record that was refused"


def every_refusal_is_told(history: History) -> Iterator[str]:
    """Who sent what was turned away finds a dead letter that refers to it."""
    for job_id in sorted(history.refused - {event.refers_to for event in history.events if event.refers_to}):
        yield f"{job_id} was refused, and nothing says so"


def ledger_and_topics_agree(history: History) -> Iterator[str]:
    """The end that the ledger remembers is the end that was published, byte for byte."""
    ends = _terminals(history)
    for row in history.jobs:
        expected = ENDS.get(row.state)
        if row.terminal_type != expected:
            yield f"{row.id} is {row.state} in the ledger, and its terminal event is {row.terminal_type}"
        for event in ends[row.id]:
            if event.type != expected:
                yield f"{row.id} is {row.state} in the ledger, and {event.topic} has {event.type}"
            elif event.value != row.terminal:
                yield f"{row.id}: {event.type} on {event.topic} differs from the one in the ledger"


def one_event_per_stage(history: History) -> Iterator[str]:
    """Every Output of one job has one id, and every Moderated too; of a job that was answered several times, because of
    its floor, as many as its end tells of.
    """
    attempts = {row.id: _attempts(row) for row in history.jobs}
    ids: dict[tuple[str, str], set[str]] = defaultdict(set)
    for event in history.events:
        if event.topic in STAGE_TOPICS and event.job_id:
            ids[event.topic, event.job_id].add(event.id)
    for (topic, job_id), found in ids.items():
        if len(found) > attempts.get(job_id, 1):
            yield f"{job_id} has {len(found)} events on {topic}: {', '.join(sorted(found))}"


def _attempts(row: JobRow) -> int:
    if not row.terminal or b'"floor":' not in row.terminal:
        return 1
    return len(json.loads(row.terminal)["judge"]["floor"]["attempts"])


def a_repeat_is_the_same_record(history: History) -> Iterator[str]:
    """What is published again carries the same bytes, on the same partition, so that dropping repeats is safe."""
    first: dict[str, Event] = {}
    for event in history.events:
        seen = first.setdefault(event.id, event)
        if (seen.topic, seen.partition, seen.value) != (event.topic, event.partition, event.value):
            yield (
                f"event {event.id} of {event.job_id} differs between {seen.topic}/{seen.partition}@{seen.offset} "
                f"and {event.topic}/{event.partition}@{event.offset}"
            )


def stages_in_order(history: History) -> Iterator[str]:
    """An answered generation was output, then moderated, then ended; and all about a job in one topic is in order."""
    times: dict[str, dict[str, str]] = defaultdict(dict)
    for event in history.events:
        if event.job_id:
            times[event.job_id].setdefault(event.topic, event.time)
    for row in history.jobs:
        found = times[row.id]
        path = [*STAGE_TOPICS, "results"] if row.state == "done" and row.kind == "generation" else []
        if missing := [topic for topic in path if topic not in found]:
            yield f"{row.id} was answered without an event on {', '.join(missing)}"
            continue
        order = [found[topic] for topic in (*STAGE_TOPICS, "results", "dead") if topic in found]
        if order != sorted(order):
            yield f"{row.id} has stages out of order: {found}"


def only_known_jobs_have_events(history: History) -> Iterator[str]:
    """Nothing is said about a job that the ledger has not taken in."""
    known = {row.id for row in history.jobs}
    for job_id in sorted({e.job_id for e in history.events if e.job_id} - known):
        yield f"{job_id} has events, and the ledger has never heard of it"


def nothing_is_leased(history: History) -> Iterator[str]:
    """No claim and no step is in anybody's hands."""
    if history.claims:
        yield f"{history.claims} claims are held"
    for step in history.steps:
        if step.state == "leased" or step.claim_id is not None:
            yield f"{step.job_id} {step.stage} is {step.state} under claim {step.claim_id}"


def ended_jobs_have_no_work_left(history: History) -> Iterator[str]:
    """A job that ended leaves no step that could still run."""
    ended = {row.id for row in history.jobs if row.state in ENDS}
    for step in history.steps:
        if step.job_id in ended and step.state in ("ready", "waiting", "parked", "held"):
            yield f"{step.job_id} has ended, and its step {step.stage} is {step.state}"


def the_outbox_is_empty(history: History) -> Iterator[str]:
    """Every event that was decided was published."""
    if history.outbox:
        yield f"{history.outbox} events wait in the outbox"


def nothing_blocked_is_shown(history: History) -> Iterator[str]:
    """A text that moderation stops is in no event downstream of it."""
    for event in history.events:
        if event.topic in ("moderated", "results"):
            for number, text in enumerate(history.forbidden):
                if text in event.value:
                    yield f"forbidden text {number} is in {event.topic}/{event.partition}@{event.offset}"


RULES: tuple[Rule, ...] = (
    every_published_job_is_known,
    every_job_ended,
    one_terminal_record_per_job,
    every_refusal_is_told,
    ledger_and_topics_agree,
    one_event_per_stage,
    a_repeat_is_the_same_record,
    stages_in_order,
    only_known_jobs_have_events,
    nothing_is_leased,
    ended_jobs_have_no_work_left,
    the_outbox_is_empty,
    nothing_blocked_is_shown,
)


@dataclass(frozen=True, slots=True)
class Tally:
    """How a history stands against every rule. `counts` says how large it was."""

    counts: dict[str, int]
    violations: dict[str, list[str]]  # by rule, in the order of the rules; empty lists are kept

    @property
    def holds(self) -> bool:
        return not any(self.violations.values())

    def __str__(self) -> str:
        lines = [f"  {name:<34} {count:>8,}" for name, count in self.counts.items()]
        lines.append("")
        for name, found in self.violations.items():
            lines.append(f"  {name.replace('_', ' '):<34} {'holds' if not found else f'{len(found):,} VIOLATIONS':>8}")
            lines += [f"      {text}" for text in found[:_SHOWN]]
        return "\n".join(lines)


def check(history: History) -> Tally:
    """Hold a history against every rule."""
    return Tally(_counts(history), {rule.__name__: list(rule(history)) for rule in RULES})


def _counts(history: History) -> dict[str, int]:
    states = [row.state for row in history.jobs]
    return {
        "jobs published": len(history.published),
        "jobs accepted": len(history.jobs),
        "  answered": states.count("done"),
        "  cancelled": states.count("cancelled"),
        "  dead": states.count("dead"),
        "jobs refused": len(history.refused),
        "events on the topics": len(history.events),
        "  of them repeats": len(history.events) - len({event.id for event in history.events}),
    }


def _terminals(history: History) -> dict[str, list[Event]]:
    found: dict[str, list[Event]] = defaultdict(list)
    for event in history.events:
        if event.type in (RESULT, CANCELLED, DEAD) and event.job_id:
            found[event.job_id].append(event)
    return found
