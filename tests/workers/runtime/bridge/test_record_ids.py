"""Of which job a record is: names that contradict it, and what a refusal refers to."""

from dataclasses import replace

import pytest
from tests.workers.runtime.bridge.records import NOW, RULES, accept, cancel, generation, record, replaced, without
from tests.workers.runtime.bridge.refusing import GOOD, refused, value

from headrace_schemas import Topic
from headrace_schemas.codec import decode
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.dead_letters import announce, letter
from headrace_workers.core.ledger.ingest import NewJob

NAMED = {
    "key": lambda given, name: replace(given, key=name),
    "ce_subject": lambda given, name: replace(given, headers=replaced(given.headers, "ce_subject", name)),
    "ce_partitionkey": lambda given, name: replace(given, headers=replaced(given.headers, "ce_partitionkey", name)),
}


@pytest.mark.parametrize(("name", "named"), NAMED.items(), ids=NAMED)
@pytest.mark.parametrize("wrong", [b"my-own-key", b"6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11", b"\xff\xfe"])
def test_a_name_that_contradicts_the_jobs_id_is_refused_with_both(name, named, wrong):
    """A client that derives ids in another namespace would wait for ever under the id that it made."""
    job = generation(tenant="shop", idempotency_key="k")
    found = accept(named(record(job), wrong), RULES)
    if wrong == b"\xff\xfe" and name != "key":
        refused(found, "not UTF-8")
        return
    refused(found, f"{name} is '{wrong.decode(errors='replace')}'.*{job.job_id('')}.*6f1d8a52-5d0c")
    assert (found.refers_to, found.tenant) == (job.job_id(""), "shop")


@pytest.mark.parametrize("named", NAMED.values(), ids=NAMED)
def test_the_jobs_own_id_is_taken_as_a_name_and_so_is_none(named):
    job = generation(idempotency_key="k")
    assert isinstance(accept(named(record(job), job.job_id("").encode()), RULES), NewJob)
    assert isinstance(accept(record(job, key=b""), RULES), NewJob)


def test_a_wish_to_cancel_is_held_to_its_names_too():
    """Its key keeps it behind the job's other records: another one would let it overtake."""
    job_id = generation(idempotency_key="k").job_id("")
    assert isinstance(accept(record(cancel(job_id), key=job_id.encode()), RULES), Cancellation)
    found = refused(accept(record(cancel(job_id), key=b"other"), RULES), f"key is 'other'.*{job_id}")
    assert found.refers_to == job_id


MEANT = {
    "a wrong field": value(tenant="shop", idempotency_key="k", priority=99),
    "an unknown field": value(tenant="shop", idempotency_key="k", surprise=1),
    "no model": value(tenant="shop", idempotency_key="k", model=None),
    "a deadline that passed": value(tenant="shop", idempotency_key="k", deadline="2001-01-01T00:00:00Z"),
    "too much": value(tenant="shop", idempotency_key="k", prompt="x" * 2_000_000),
}


@pytest.mark.parametrize("content", MEANT.values(), ids=MEANT)
def test_a_record_that_is_wrong_elsewhere_refers_to_its_job(content):
    found = refused(accept(record(value=content), RULES))
    assert (found.refers_to, found.tenant) == (generation(tenant="shop", idempotency_key="k").job_id(""), "shop")


def test_without_a_key_the_event_names_the_job():
    given = record(value=value(priority=99))
    assert accept(given, RULES).refers_to == generation().job_id(given.header("ce_id"))
    for content in (value(idempotency_key=5), value(tenant="no/tenant"), value(idempotency_key="\ud800"), b"[]", b"{"):
        assert refused(accept(record(value=content), RULES)).refers_to is None
    assert accept(record(value=value(priority=99), headers=without(GOOD, "ce_id")), RULES).refers_to is None


def test_a_refusal_tells_all_by_which_its_sender_finds_it():
    job = generation(model="gone")
    headers = list(record(job).headers)
    headers += [("ce_subject", b"mine"), ("ce_correlationid", b"order-7"), ("ce_traceparent", b"00-no-trace")]
    given = record(job, headers=tuple(headers), partition=4, offset=17, key=b"\xffmy-key\x00")
    told = letter(accept(given, RULES))
    assert (told.topic, told.partition, told.offset) == (Topic.GENERATION, 4, 17)
    assert (told.key, told.ce_id, told.ce_subject) == ("\ufffdmy-key\ufffd", given.header("ce_id"), "mine")
    assert (told.correlationid, told.traceparent) == ("order-7", "00-no-trace")
    published = announce(accept(given, RULES), NOW)
    assert (published.headers["ce_correlationid"], "ce_traceparent" in published.headers) == ("order-7", False)


@pytest.mark.parametrize("size", [1_000, 5_000])
def test_names_of_any_size_can_be_kept(size):
    name = "€".encode() * size
    headers = tuple((header, name) for header in ("ce_id", "ce_subject", "ce_correlationid", "ce_traceparent"))
    told = letter(accept(record(headers=headers, key=name), RULES))
    for text in (told.key, told.ce_id, told.ce_subject, told.correlationid, told.traceparent):
        assert text == "€" * len(text)
        assert 0 < len(text.encode()) <= 1024


@pytest.mark.parametrize("character", ["\n", "\x1b", "\x85", "\x00"])
def test_what_tells_of_a_refused_record_can_be_read_itself(character):
    """A name with a control character is no reason for a letter that every reader would refuse, too."""
    name = f"order{character}7".encode()
    headers = tuple((f"ce_{header}", name) for header in ("subject", "correlationid", "traceparent"))
    found = accept(record(headers=(*GOOD, *headers), key=name), RULES)
    told = announce(found, NOW)
    envelope, event = decode([(header, text.encode()) for header, text in told.headers.items()], told.value)
    assert (envelope.correlationid, event.correlationid, event.key) == ("order\ufffd7",) * 3
