import json
from contextlib import nullcontext
from dataclasses import replace

import pytest
from tests.workers.cli.conftest import Call
from tests.workers.runtime.bridge.records import RULES, accept, generation, record, replaced

from headrace_producers import Producer
from headrace_schemas import GenerationJob
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.replay import DeadFilter

JOB = generation(model="gone", tenant="shop", idempotency_key="k")
JOB_ID = JOB.job_id("")


@pytest.fixture
def refused(ledger: Ledger):
    """A job that was refused: its names differ, so that each is tried alone."""
    headers = record(JOB).headers
    for name, text in (("ce_id", b"event-1"), ("ce_subject", b"subject-1"), ("ce_correlationid", b"order-7")):
        headers = replaced(headers, name, text)
    burial = accept(record(JOB, headers=headers, key=b"key-1", partition=2, offset=9), RULES)
    other = accept(record(generation(model="gone"), offset=10), RULES)
    ledger.ingest([], [burial, other])
    return burial


NAMES = {
    "its letter's id": lambda burial: burial.id,
    "the id it would have had": lambda burial: JOB_ID,
    "its key": lambda burial: "key-1",
    "its ce_id": lambda burial: "event-1",
    "its ce_subject": lambda burial: "subject-1",
    "its correlation id": lambda burial: "order-7",
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_every_name_of_a_refused_record_leads_to_it(call: Call, refused, name):
    code, out, err = call("status", name(refused))
    assert (code, out) == (1, "")
    assert "refused at admission: key is 'key-1'" in err
    assert f"headrace dead list {refused.id}" in err
    for command in (("dead", "list", name(refused)), ("dead", "list", name(refused))):
        code, out, _ = call(*command, "--json")
        (shown,) = map(json.loads, out.splitlines())
        assert (code, shown["id"], shown["job_id"], shown["refers_to"]) == (0, refused.id, None, JOB_ID)
    assert shown["died_at"].endswith("Z")
    assert (shown["size"], shown["truncated"]) == (len(refused.value), False)
    assert {shown[n] for n in ("key", "ce_id", "ce_subject", "correlationid")} == {
        "key-1", "event-1", "subject-1", "order-7"
    }  # fmt: skip
    assert (shown["topic"], shown["partition"], shown["offset"]) == ("jobs.generation", 2, 9)


def test_a_refused_job_is_found_by_its_idempotency_key(call: Call, refused):
    code, _, err = call("status", "k", "--tenant", "shop")
    assert code == 1
    assert f"headrace dead list {refused.id}" in err
    assert "the ledger knows no such job" in call("status", "k", "--tenant", "other")[2]


def test_an_accepted_job_is_found_by_its_correlation_id(call: Call, ledger: Ledger):
    jobs = [
        accept(record(job, headers=replaced(record(job).headers, "ce_correlationid", b"order-8")), RULES)
        for job in (generation(idempotency_key="1"), generation(idempotency_key="2"))
    ]
    ledger.ingest(jobs[:1])
    assert json.loads(call("status", "order-8", "--json")[1])["id"] == jobs[0].id
    ledger.ingest(jobs[1:])
    code, out, err = call("status", "order-8")
    assert (code, out) == (1, "")
    assert all(job.id in err for job in jobs)


def accepted(job: GenerationJob, event_id: str = "event-9") -> NewJob:
    found = accept(record(job, headers=replaced(record(job).headers, "ce_id", event_id.encode())), RULES)
    assert isinstance(found, NewJob)
    return found


NAMED = {
    "event's id": ({}, ["event-9"]),
    "event's id, beside a key": ({"idempotency_key": "order-9"}, ["event-9"]),
    "key": ({"idempotency_key": "order-9"}, ["order-9"]),
    "key, with its tenant": ({"idempotency_key": "order-9", "tenant": "shop"}, ["order-9", "--tenant", "shop"]),
    "key of a tenant that has work": ({"idempotency_key": "order-9", "tenant": "shop"}, ["order-9"]),
}


@pytest.mark.parametrize(("fields", "name"), NAMED.values(), ids=NAMED)
def test_an_accepted_job_is_found_by_each_name_that_its_sender_knows(call: Call, ledger: Ledger, fields, name):
    job = accepted(generation(**fields))
    ledger.ingest([job, accepted(generation(prompt="other", idempotency_key="other"), "other-event")])
    code, out, _ = call("status", *name, "--json")
    assert (code, json.loads(out)["id"]) == (0, job.id)


def test_a_name_of_another_tenants_job_is_none_of_this_ones(call: Call, ledger: Ledger):
    ledger.ingest([accepted(generation(idempotency_key="order-9", tenant="shop"))])
    for name in ("order-9", "event-9"):
        assert call("status", name, "--tenant", "other")[::2] == (1, f"{name}: the ledger knows no such job\n")
    assert "say whose: --tenant" in call("status", "order-10")[2]


def test_an_events_id_is_kept_only_where_the_jobs_does_not_come_from_it(ledger: Ledger):
    """Others need no column, and pay for none."""
    kept = {
        accepted(generation(idempotency_key="order-9")).ce_id,
        accepted(generation()).ce_id,
        accepted(generation(idempotency_key="event-9")).ce_id,
    }
    assert kept == {"event-9", None}
    assert accepted(generation()).ce_id is None


def test_a_job_tells_what_was_refused_under_its_id(call: Call, ledger: Ledger):
    first, second = (
        accept(record(generation(prompt=p, idempotency_key="k"), offset=n), RULES) for n, p in enumerate("ab")
    )
    ledger.ingest([first, second])
    code, out, err = call("status", first.id, "--json")
    assert (code, json.loads(out)["state"]) == (0, "active")
    assert "other content" in err
    assert "headrace dead list" in err


@pytest.mark.parametrize("columns", [60, 80, 200])
def test_the_list_is_readable_at_any_width(call: Call, refused, monkeypatch, columns):
    monkeypatch.setenv("COLUMNS", str(columns))
    monkeypatch.setattr("headrace_workers.cli.output.PLAIN_WIDTH", columns)
    code, out, _ = call("dead", "list")
    assert code == 0
    assert "letter" in out
    assert "job" in out
    words = out.split()
    assert refused.id in words
    assert JOB_ID in words
    assert max(map(len, out.splitlines())) <= columns


def test_the_size_is_that_of_the_whole_record(call: Call, ledger: Ledger):
    """Of one that is too large to be kept whole, too: the ledger's copy is cut, and says so."""
    burial = accept(record(value=b"x" * 1_500_000), RULES)
    ledger.ingest([], [burial])
    shown = json.loads(call("dead", "list", "--json")[1])
    assert (shown["size"], shown["truncated"]) == (1_500_000, True)


def test_cancelling_what_is_not_known_says_so(call: Call, ledger: Ledger, monkeypatch, tmp_path):
    """It is cancelled ahead: an id with a slip in it would look the same. Another tenant's job stays alone."""
    monkeypatch.setenv("HEADRACE_LEDGER", f"sqlite:///{tmp_path}/.headrace/ledger.db")
    ledger.ingest([], [], [Cancellation(JOB_ID, "shop", "")])
    code, _, err = call("cancel", JOB_ID)
    assert code == 0
    assert "not known yet" in err
    job = accept(record(generation(tenant="shop")), RULES)
    ledger.ingest([job])
    code, _, err = call("cancel", job.id, "--tenant", "other")
    assert code == 1
    assert "another tenant" in err
    assert ledger.job(job.id).job.state == "active"


def test_a_refused_record_is_replayed_as_it_came(ledger: Ledger, refused):
    ledger.published([row.id for row in ledger.outbox(10)])
    assert ledger.replay(DeadFilter(id="key-1", replayed=True)) == (1, 0)
    (row,) = ledger.outbox(10)
    assert (row.record.topic, row.record.key, row.record.value) == ("jobs.generation", "key-1", refused.value)
    assert row.record.headers["ce_subject"] == "subject-1"


def test_a_job_is_cancelled_by_its_key_as_status_finds_it(call: Call, ledger: Ledger, monkeypatch, tmp_path):
    monkeypatch.setenv("HEADRACE_LEDGER", f"sqlite:///{tmp_path}/.headrace/ledger.db")
    sent: list[tuple[str, str | None]] = []

    class Sender(nullcontext[None]):
        """A producer whose record is taken in at once."""

        def __enter__(self) -> "Sender":
            return self

        def cancel(self, job_id: str, *, tenant: str | None, reason: str) -> None:
            sent.append((job_id, tenant))
            ledger.ingest([], [], [Cancellation(job_id, tenant or "default", reason)])

    monkeypatch.setattr(Producer, "from_env", Sender)
    named = [record(generation(tenant="shop", idempotency_key=key)) for key in "ab"]
    jobs = [
        accept(replace(item, headers=replaced(item.headers, "ce_correlationid", b"order")), RULES) for item in named
    ]
    ledger.ingest(jobs)
    code, _, err = call("cancel", "order", "--tenant", "shop")
    assert (code, "order is a name of several jobs" in err) == (1, True), err
    assert call("cancel", "c")[0] == 1
    assert sent == []
    code, _, err = call("cancel", "a", "--tenant", "shop")
    assert (code, f"{jobs[0].id}: cancelled" in err, sent) == (0, True, [(jobs[0].id, "shop")]), err
