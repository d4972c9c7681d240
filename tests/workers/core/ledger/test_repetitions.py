import json
from dataclasses import replace
from uuid import uuid4

import pytest
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas import Category, Topic
from headrace_schemas.codec import decode_value
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.dead_letters import Record

PROMPT = {"model": "m", "prompt": "p", "idempotency_key": "k"}


@pytest.fixture
def sent(job):
    """Makes the job of a record: what it asks for, where it lies, and who sent it."""
    name, offsets = str(uuid4()), iter(range(100))

    def make(fields=PROMPT, *, tenant="a", offset=None):
        value = fields if isinstance(fields, bytes) else json.dumps(fields).encode()
        place = next(offsets) if offset is None else offset
        headers = (("ce_id", b"event-%d" % place), ("ce_subject", name.encode()))
        record = Record(Topic.GENERATION, 3, place, headers, value, key=name.encode())
        return replace(job(tenant=tenant, job_id=name), payload=value, record=record)

    return make


def letters(ledger):
    """The dead letters that were written since the last look, as events."""
    rows = ledger.outbox(100)
    ledger.published([row.id for row in rows])
    return [decode_value("headrace.dead.v1", row.record.value) for row in rows if row.record.topic is Topic.DEAD]


@pytest.mark.parametrize("polls", [1, 2])
def test_of_two_contents_under_one_key_the_first_wins_and_the_second_is_told(ledger, sent, polls):
    first, second = sent(), sent(PROMPT | {"prompt": "another"})
    for jobs in [[first, second]] if polls == 1 else [[first], [second]]:
        ledger.ingest(jobs)
    assert bytes(ledger.job(first.id).job.payload) == first.payload
    (letter,) = letters(ledger)
    assert (letter.category, letter.job_id, letter.refers_to) == (Category.CONFLICT, None, first.id)
    assert (letter.topic, letter.partition, letter.offset) == ("jobs.generation", 3, second.record.offset)
    assert (letter.key, letter.ce_id, letter.ce_subject) == (first.id, "event-1", first.id)
    assert json.loads(letter.original)["prompt"] == "another"
    assert "key of its own" in letter.reason
    ledger.ingest([first, second])
    ledger.ingest([second, first])
    assert letters(ledger) == []
    assert ledger.job(first.id).job.state == "active"


SAME = {
    "the same bytes": PROMPT,
    "in another order": dict(reversed(PROMPT.items())),
    "with spaces": json.dumps(PROMPT, indent=4).encode(),
    "with defaults written out": PROMPT | {"priority": 5, "sampling": {"top_p": 1.0}},
    "with a later deadline": PROMPT | {"deadline": "2100-01-01T00:00:00Z"},
}


@pytest.mark.parametrize("again", SAME.values(), ids=SAME)
@pytest.mark.parametrize("polls", [1, 2])
def test_a_repetition_of_the_same_content_is_silent(ledger, sent, again, polls):
    """Sending twice is safe, also from a client that writes its JSON otherwise or counts its deadline from now."""
    first, second = sent(), sent(again)
    for jobs in [[first, second]] if polls == 1 else [[first], [second]]:
        ledger.ingest(jobs)
    assert letters(ledger) == []
    assert ledger.active_jobs() == 1


FORMAT = {"type": "json_schema", "json_schema": {"type": "object", "required": ["id"]}}
DIFFERENT = {
    "prompt": {"prompt": "another"},
    "lane": {"lane": "batch"},
    "lane, sampling.max_tokens": {"lane": "batch", "sampling": {"max_tokens": 9}},
    "output": {"output": FORMAT},
}


@pytest.mark.parametrize(("fields", "after"), DIFFERENT.items(), ids=DIFFERENT)
def test_a_conflict_names_the_fields_that_differ(ledger, sent, fields, after):
    ledger.ingest([first := sent()])
    ledger.ingest([sent(PROMPT | after)])
    (letter,) = letters(ledger)
    assert letter.reason == (
        f"job {first.id} is there with other content (it differs in {fields}): send this under an idempotency key of "
        "its own"
    )


def test_a_conflict_is_told_with_the_trace_of_the_record_that_came_second(ledger, sent):
    first, second = (f"00-{digit * 32}-00f067aa0ba902b7-01" for digit in "12")
    ledger.ingest([replace(sent(), traceparent=first)])
    ledger.ingest([replace(sent(PROMPT | {"prompt": "another"}), traceparent=second)])
    (told,) = ledger.outbox(9)
    assert told.record.headers["ce_traceparent"] == second


def test_many_repetitions_and_conflicts_of_one_poll_are_told_apart(ledger, job):
    known = [replace(job(), payload=json.dumps(PROMPT | {"prompt": str(n)}).encode()) for n in range(60)]
    ledger.ingest(known)
    other = known[0].payload
    again = [
        replace(j, payload=other, record=replace(j.record, value=other)) if n % 2 else j for n, j in enumerate(known)
    ]
    ledger.ingest(again)
    assert {letter.refers_to for letter in letters(ledger)} == {j.id for j in known[1::2]}


def test_a_job_that_its_tenant_cancelled_ahead_is_passed_over(ledger, sent):
    """Its cancellation was told; whatever it would have asked for."""
    ledger.ingest([], [], [Cancellation(sent().id, "a", "")])
    ledger.ingest([sent()])
    assert letters(ledger) == []


def test_a_job_that_another_tenant_cancelled_ahead_is_told(ledger, sent):
    ledger.ingest([], [], [Cancellation(sent().id, "b", "")])
    ledger.ingest([sent()])
    (letter,) = letters(ledger)
    assert (letter.category, letter.tenant) == (Category.CONFLICT, "a")
    assert "was cancelled by another tenant" in letter.reason
