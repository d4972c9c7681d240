from types import SimpleNamespace

from headrace_workers.core.ledger.job_status import Standing
from headrace_workers.features.jobs.api.events import facts_of, news

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
    return [fact.id for fact in facts]


def test_facts_come_in_the_order_of_a_job_s_way():
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
    fact = facts_of(JOB, standing(("generate", "waiting", 1)))[1]
    sent = fact.sent(fact.event_id("accepted"))
    assert sent.startswith(b"id: generate.0.1.waiting;1\nevent: step\ndata: {")
    assert sent.endswith(b"}\n\n")
    assert sent.count(b"\n") == 4


def test_no_two_events_of_a_stream_have_the_same_id():
    last, heard = None, []
    for state, attempts in (("ready", 0), ("leased", 1), ("parked", 0), ("ready", 0), ("leased", 1), ("done", 1)):
        for fact in news(facts_of(JOB, standing(("generate", state, attempts))), last):
            last = fact.event_id(last)
            heard.append(last)
    assert len(heard) == 7
    assert len(set(heard)) == 7
    assert news(facts_of(JOB, standing(("generate", "done", 1))), heard[-1]) == []


def test_an_id_that_a_client_made_up_is_no_error():
    facts = facts_of(JOB, standing(("generate", "ready", 0)))
    for odd in (
        "generate.0.0.ready;",
        "generate.0.0.ready;x",
        "generate.0.0.ready;\u0664",
        ";",
        ";;9",
        ";" + "9" * 5_000,
    ):
        assert facts[1].event_id(odd).startswith("generate.0.0.ready;")
    assert news(facts, "generate.0.0.ready;x") == []
