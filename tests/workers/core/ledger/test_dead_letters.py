import base64
import json
from dataclasses import replace

import pytest
from sqlalchemy import select, update
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas import Category, Topic
from headrace_schemas.codec import decode_value
from headrace_schemas.limits import DEAD_PREVIEW_BYTES, MAX_VALUE_BYTES
from headrace_workers.core.ledger.dead_letters import (
    Burial,
    Record,
    announce,
    bury,
    letter,
    letter_row,
    refusal,
)
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import DEAD_LETTERS, JOBS, STEPS

JOB, OTHER = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11", "7f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"
TRACE = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"


def burial(value=b"{}", **changes):
    """A refusal that says all that one can say."""
    known = {
        "id": "the letter", "job_id": None, "refers_to": JOB, "tenant": "shop", "category": Category.INVALID,
        "reason": "because", "stage": "ingest", "attempts": 2, "topic": Topic.EVALUATION, "value": value,
        "headers": {"ce_type": "t"}, "trace": TRACE, "partition": 3, "offset": 7, "key": "the key", "ce_id": "the id",
        "ce_subject": "the subject", "traceparent": "trace", "correlationid": "order-7",
    }  # fmt: skip
    return Burial(**(known | changes))


def test_a_letter_says_all_that_is_known():
    event, row = letter(burial(b'{"a":1}')), letter_row(burial(b'{"a":1}'), 5)
    for name in ("job_id", "refers_to", "tenant", "reason", "stage", "attempts", "size", "truncated", "partition",
                 "offset", "key", "ce_id", "ce_subject", "traceparent", "correlationid"):  # fmt: skip
        assert getattr(event, name) == row[name], name
    assert (event.job_id, event.refers_to, event.tenant, event.reason) == (None, JOB, "shop", "because")
    assert (event.stage, event.attempts, event.size, event.truncated) == ("ingest", 2, 7, False)
    assert (event.partition, event.offset, event.key, event.ce_id) == (3, 7, "the key", "the id")
    assert (event.ce_subject, event.traceparent, event.correlationid) == ("the subject", "trace", "order-7")
    assert (event.category, row["category"]) == (Category.INVALID, "invalid")
    assert event.topic == row["topic"] == "jobs.evaluation"
    assert (event.original, event.encoding) == ('{"a":1}', "utf-8")
    assert (row["id"], row["value"], row["died_at"]) == ("the letter", b'{"a":1}', 5)
    assert json.loads(row["headers"]) == {"ce_type": "t"}


@pytest.mark.parametrize("value", [b"\xff\xfe", b"a\x00b", "é".encode()[:1]])
def test_what_is_no_text_is_shown_in_base64(value):
    event = letter(burial(value))
    assert (base64.b64decode(event.original), event.encoding) == (value, "base64")


def test_a_letter_is_bounded():
    exact, more = letter(burial(b"x" * DEAD_PREVIEW_BYTES)), letter(burial(b"x" * (DEAD_PREVIEW_BYTES + 1)))
    assert [(e.truncated, e.size, len(e.original)) for e in (exact, more)] == [
        (False, DEAD_PREVIEW_BYTES, DEAD_PREVIEW_BYTES),
        (True, DEAD_PREVIEW_BYTES + 1, DEAD_PREVIEW_BYTES),
    ]
    for size, cut in ((MAX_VALUE_BYTES, False), (MAX_VALUE_BYTES + 1, True)):
        row = letter_row(burial(b"x" * size), 1)
        assert (row["size"], row["truncated"], len(row["value"])) == (size, cut, MAX_VALUE_BYTES)
    part = letter(burial(b"x", size=9))  # of which only a part is here
    assert (part.size, part.truncated) == (9, True)


def test_a_reason_is_text_of_bounded_length():
    reason = "a\x00b\ud800c" + "x" * 3_000
    for told in (letter(burial(reason=reason)).reason, letter_row(burial(reason=reason), 1)["reason"]):
        assert told.startswith("a\\0b\\ud800cx")
        assert len(told) == 2_000


def test_a_letter_goes_where_its_job_is_followed():
    """The key is the job's id, or the id that it would have had; trace and correlation are handed through."""
    told = announce(burial(), 1_800_000_000_123)
    assert (told.topic, told.key) == (Topic.DEAD, JOB)
    assert told.headers["ce_id"] == "the letter"
    assert told.headers["ce_time"].startswith("2027-01-15T08:00:00.123")
    assert told.headers["ce_correlationid"] == "order-7"
    assert told.headers["ce_traceparent"] == TRACE
    assert "ce_subject" not in told.headers
    ended = announce(burial(job_id=OTHER), 0)
    assert (ended.key, ended.headers["ce_subject"]) == (OTHER, OTHER)
    assert announce(burial(refers_to=None), 0).key is None


def named(number):
    return JOB[:-1] + str(number)


@pytest.fixture
def letters(ledger):
    for number in range(5):
        names = {"key": f"key{number}", "ce_id": f"ce{number}", "ce_subject": f"s{number}"}
        category = Category.INVALID if number % 2 else Category.CONFLICT
        ledger.ingest([], [burial(id=str(number), refers_to=named(number), category=category, **names)])
    with writing(ledger.engine) as tx:
        for number, at in enumerate((1_000, 2_000, 3_000, 4_000, 4_000)):
            tx.execute(update(DEAD_LETTERS).where(DEAD_LETTERS.c.id == str(number)).values(died_at=at))


def found(ledger, limit=100, **wanted):
    return [row.id for row in ledger.dead(DeadFilter(**wanted), limit)]


@pytest.mark.usefixtures("letters")
def test_letters_are_found_newest_first(ledger):
    assert found(ledger) == ["3", "4", "2", "1", "0"]
    assert found(ledger, 2) == ["3", "4"]
    assert found(ledger, since_ms=3_000) == ["3", "4", "2"]
    assert found(ledger, until_ms=3_000) == ["1", "0"]
    assert found(ledger, since_ms=2_000, until_ms=4_000, category=Category.INVALID) == ["1"]
    assert found(ledger, category=Category.CONFLICT) == ["4", "2", "0"]
    assert found(ledger, category=Category.POISON) == []


@pytest.mark.usefixtures("letters")
def test_letters_are_found_and_replayed_by_stage_and_tenant(ledger):
    with writing(ledger.engine) as tx:
        of = {"1": ("deliver", "acme"), "2": ("deliver", "shop"), "3": ("generate", "acme")}
        for number, (stage, tenant) in of.items():
            tx.execute(update(DEAD_LETTERS).where(DEAD_LETTERS.c.id == number).values(stage=stage, tenant=tenant))
    assert found(ledger, stage="deliver") == ["2", "1"]
    assert found(ledger, tenant="acme") == ["3", "1"]
    assert found(ledger, stage="deliver", tenant="acme", since_ms=2_000, category=Category.INVALID) == ["1"]
    assert found(ledger, stage="moderate") == []
    assert ledger.replay(DeadFilter(stage="deliver"), 100) == (2, 0)
    assert found(ledger) == ["3", "4", "0"]


@pytest.mark.usefixtures("letters")
@pytest.mark.parametrize("name", ["2", named(2), "key2", "ce2", "s2"])
def test_letters_are_found_by_each_of_their_names(ledger, name):
    assert found(ledger, id=name) == ["2"]


@pytest.mark.usefixtures("letters")
def test_a_letter_is_replayed_once(ledger):
    ledger.published([row.id for row in ledger.outbox(99)])
    assert ledger.replay(DeadFilter(id="2")) == (1, 0)
    (again,) = ledger.outbox(99)
    record = again.record
    assert (record.topic, record.key, record.headers, record.value) == (
        Topic.EVALUATION, "key2", {"ce_type": "t"}, b"{}",
    )  # fmt: skip
    assert found(ledger) == ["3", "4", "1", "0"]
    assert found(ledger, replayed=True) == ["3", "4", "2", "1", "0"]
    assert found(ledger, replayed=True, id="2") == ["2"]
    ((at,),) = ledger.read(select(DEAD_LETTERS.c.replayed_at).where(DEAD_LETTERS.c.id == "2"))
    assert abs(at - ledger.now()) < 60_000
    assert ledger.replay(DeadFilter(), limit=3) == (3, 0)
    assert found(ledger) == ["0"]


def test_without_a_key_a_record_is_replayed_under_the_id_it_refers_to(ledger):
    """So that it lies where the job's other records do."""
    ledger.ingest([], [burial(key=None)])
    ledger.replay(DeadFilter())
    assert [row.record.key for row in ledger.outbox(9)] == [JOB, JOB]


def test_a_refusal_says_where_the_record_lay_and_what_it_said_of_itself():
    """Of two headers of one name the last counts; what is too long is cut; what is no text is replaced."""
    headers = (
        ("ce_id", b"first"), ("ce_id", b"last"), ("ce_subject", b"s\xff"), ("ce_traceparent", b"not a trace"),
        ("ce_correlationid", b"c" * 5_000), ("ce_none", None),
    )  # fmt: skip
    record = Record(Topic.GENERATION, 3, 7, headers, b"value", timestamp=5, key=b"k\x00")
    told = refusal(record, Category.INVALID, "because", refers_to=JOB, tenant="shop", traceparent="good", sound=True)
    assert (told.partition, told.offset, told.key) == (3, 7, "k\ufffd")
    assert (told.ce_id, told.ce_subject, told.traceparent) == ("last", "s\ufffd", "not a trace")
    assert (told.job_id, told.refers_to, told.tenant, told.category) == (None, JOB, "shop", Category.INVALID)
    assert (told.reason, told.stage, told.attempts, told.sound) == ("because", "ingest", 0, True)
    assert (told.topic, told.value, told.trace, told.correlationid) == (
        Topic.GENERATION, b"value", "good", "c" * 1_024,
    )  # fmt: skip
    assert told.headers["ce_id"] == "last"
    assert told.headers["ce_none"] == ""


def test_the_same_record_is_refused_under_the_same_id():
    def told(**changes):
        record = replace(Record(Topic.GENERATION, 3, 7, (), None, timestamp=5), **changes)
        return refusal(record, Category.INVALID, "because", refers_to=None, tenant=None)

    others = [{"topic": Topic.EVALUATION}, {"partition": 4}, {"offset": 8}, {"timestamp": 6}]
    assert told().id == told(value=b"x").id
    assert len({told().id, *(told(**change).id for change in others)}) == 5
    assert (told().value, told().sound, told().trace, told().correlationid) == (b"", False, None, None)
    assert (told().key, told().ce_id) == (None, None)


def test_a_job_is_buried_once_and_at_one_step(ledger, job):
    live, ended = job(), job()
    ledger.ingest([live, ended])
    with writing(ledger.engine) as tx:
        (step,) = tx.execute(select(STEPS).where(STEPS.c.job_id == live.id)).mappings()
        tx.execute(STEPS.insert(), [dict(step) | {"stage": "moderate", "state": "done"}])
        tx.execute(update(STEPS).where(STEPS.c.stage == "generate").values(claim_id=7))
        tx.execute(update(JOBS).where(JOBS.c.id == ended.id).values(state="done", ended_at=1))
    deaths = [
        burial(id=item.id[::-1], job_id=item.id, stage="generate", reason="be\x00cause") for item in (live, ended)
    ]
    with writing(ledger.engine) as tx:
        assert bury(tx, deaths, 5_000) == {live.id}
        assert bury(tx, deaths, 6_000) == bury(tx, [], 6_000) == frozenset()
    (told,) = ledger.outbox(9)
    assert told.record == announce(deaths[0], 5_000)
    known = ledger.job(live.id)
    assert (known.job.state, known.job.ended_at, known.job.terminal_type) == ("dead", 5_000, "headrace.dead.v1")
    assert bytes(known.job.terminal) == told.record.value
    steps = {step.stage: (step.state, step.claim_id, step.ended_at, step.reason) for step in known.steps}
    assert steps == {"generate": ("dead", None, 5_000, "be\\0cause"), "moderate": ("done", None, None, None)}
    assert ledger.job(ended.id).job.state == "done"
    assert [step.state for step in ledger.job(ended.id).steps] == ["ready"]
    assert found(ledger) == [deaths[0].id]


def test_a_refusal_is_told_once(ledger):
    ledger.ingest([], [burial(), burial()])
    ledger.ingest([], [burial(), burial(id="another")])
    told = [row.record for row in ledger.outbox(9)]
    assert [record.headers["ce_id"] for record in told] == ["the letter", "another"]
    event = decode_value("headrace.dead.v1", told[0].value)
    assert (event.reason, event.refers_to) == ("because", JOB)


def test_a_records_headers_are_shown_in_a_bounded_part():
    many = tuple((f"h{n}" + "n" * 2_000, b"v" * 2_000) for n in range(70))
    shown = Record(Topic.GENERATION, 0, 0, (("odd", b"a\xff"), *many), None).shown_headers()
    assert len(shown) == 64
    assert shown["odd"] == "a\ufffd"
    name, value = list(shown.items())[-1]
    assert (name[:3], len(name), len(value)) == ("h62", 1_024, 1_024)


def test_a_text_is_cut_in_bytes_and_between_characters():
    """More than an index takes would stop ingest."""
    record = Record(Topic.GENERATION, 0, 0, (("h", "é".encode() * 2_000), ("none", None)), None, key=b"x" * 2_000)
    assert record.header("h") == "é" * 512
    assert record.header("none") is record.header("absent") is None
    assert record.key_text == "x" * 1_024
    assert Record(Topic.GENERATION, 0, 0, (), None, key=b"\xff" * 2_000).key_text == "\ufffd" * 341
