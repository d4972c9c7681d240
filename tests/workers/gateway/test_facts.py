"""What a stream of events tells, and how it goes on."""

from types import SimpleNamespace

from headrace_workers.gateway.facts import facts_of, news
from headrace_workers.ledger.door.told import Standing

JOB = "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"


def standing(*steps, state="active"):
    """A job with these steps: (stage, state, attempts)."""
    rows = tuple(
        SimpleNamespace(stage=stage, ordinal=0, state=how, attempts=attempts, reason=None)
        for stage, how, attempts in steps
    )
    row = SimpleNamespace(state=state, kind="generation", accepted_at=1, ended_at=2, end=None)
    return Standing("t", row, rows, 1)


def ids(facts):
    """Of these facts."""
    return [fact.id for fact in facts]


def test_facts_come_in_the_order_of_a_job_s_way():
    """Let in, each step as it is, and the end."""
    assert ids(facts_of(JOB, Standing("t", accepted_at=1))) == ["accepted"]
    done = standing(("generate", "done", 2), ("moderate", "done", 1), state="done")
    assert ids(facts_of(JOB, done)) == ["accepted", "generate.0.2.done", "moderate.0.1.done", "end"]


def test_a_stream_goes_on_behind_what_was_heard():
    """Also where that has changed since: then how it stands now is news."""
    ready = facts_of(JOB, standing(("generate", "ready", 0)))
    later = facts_of(JOB, standing(("generate", "done", 1), ("moderate", "leased", 1)))
    assert ids(news(ready, None)) == ["accepted", "generate.0.0.ready"]
    assert ids(news(ready, "generate.0.0.ready")) == []
    assert ids(news(later, "generate.0.0.ready")) == ["generate.0.1.done", "moderate.0.1.leased"]
    assert ids(news(later, "generate.0.1.done")) == ["moderate.0.1.leased"]
    assert ids(news(later, "no fact of this job")) == ids(later)


def test_a_fact_is_one_event_on_the_wire():
    """With an id, by which a client goes on."""
    fact = facts_of(JOB, standing(("generate", "waiting", 1)))[1]
    assert fact.sent().startswith(b"id: generate.0.1.waiting\nevent: step\ndata: {")
    assert fact.sent().endswith(b"}\n\n")
    assert fact.sent().count(b"\n") == 4
