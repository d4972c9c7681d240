"""The checker itself: a good history passes, and each rule fails on a history that breaks it."""

from dataclasses import replace

import pytest
from tests.chaos.history import Event, History, JobRow, StepRow
from tests.chaos.rules import CANCELLED, DEAD, RESULT, RULES, check

OUTPUT, MODERATED = "headrace.output.v1", "headrace.moderated.v1"


def event(topic: str, kind: str, job: str = "a", *, id: str | None = None, second: int = 0, value: bytes = b"{}", **at):
    time = f"2026-01-01T00:00:0{second}.000Z"
    at = {"partition": 0, "offset": 0, **at}
    return Event(topic, at["partition"], at["offset"], id or f"{job}-{kind}", kind, time, job, value)


PATH = (
    event("outputs", OUTPUT, second=1),
    event("moderated", MODERATED, second=2),
    event("results", RESULT, second=3, value=b"end"),
)
LETTER = replace(event("dead", DEAD, "d"), job_id=None, refers_to="d")
STEPS = tuple(StepRow("a", stage, "done", None) for stage in ("generate", "moderate", "judge"))
GOOD = History(
    published=frozenset({"a", "b", "c", "d"}),
    events=(
        *PATH,
        replace(PATH[2], offset=7),
        event("results", CANCELLED, "b", value=b"end"),
        event("dead", DEAD, "c", value=b"end"),
        LETTER,
    ),
    jobs=(
        JobRow("a", "generation", "done", RESULT, b"end"),
        JobRow("b", "unknown", "cancelled", CANCELLED, b"end"),
        JobRow("c", "generation", "dead", DEAD, b"end"),
    ),
    steps=(*STEPS, StepRow("b", "generate", "cancelled", None)),
    refused=frozenset({"d"}),
    forbidden=(b"secret",),
)


def with_events(*events: Event) -> History:
    return replace(GOOD, events=(*GOOD.events, *events))


BROKEN = {
    "every_published_job_is_known": replace(GOOD, published=GOOD.published | {"z"}),
    "every_job_ended": replace(GOOD, jobs=(*GOOD.jobs, JobRow("e", "generation", "active", None, None))),
    "one_terminal_record_per_job": with_events(event("results", CANCELLED, "a", second=4)),
    "every_refusal_is_told": replace(GOOD, events=tuple(e for e in GOOD.events if e != LETTER)),
    "ledger_and_topics_agree": replace(
        GOOD, jobs=(JobRow("a", "generation", "done", RESULT, b"other"), *GOOD.jobs[1:])
    ),
    "one_event_per_stage": with_events(event("outputs", OUTPUT, id="another")),
    "a_repeat_is_the_same_record": with_events(replace(PATH[0], value=b"other", offset=9)),
    "stages_in_order": replace(GOOD, events=(*GOOD.events[1:],)),
    "only_known_jobs_have_events": with_events(event("outputs", OUTPUT, "z")),
    "nothing_is_leased": replace(GOOD, steps=(*GOOD.steps, StepRow("a", "x", "leased", 3))),
    "ended_jobs_have_no_work_left": replace(GOOD, steps=(*GOOD.steps, StepRow("a", "x", "ready", None))),
    "the_outbox_is_empty": replace(GOOD, outbox=1),
    "nothing_blocked_is_shown": with_events(event("moderated", MODERATED, id="x", value=b"a secret")),
}


def test_a_good_history_passes_every_rule():
    tally = check(GOOD)
    assert tally.holds, str(tally)
    assert tally.counts["jobs accepted"] == 3
    assert tally.counts["  of them repeats"] == 1


def test_every_rule_has_a_history_that_breaks_it():
    assert list(BROKEN) == [rule.__name__ for rule in RULES]


@pytest.mark.parametrize("rule", BROKEN)
def test_a_broken_history_is_found(rule):
    tally = check(BROKEN[rule])
    assert tally.violations[rule]
    assert not tally.holds
    assert "VIOLATIONS" in str(tally)
