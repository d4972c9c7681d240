import json
from datetime import UTC, datetime

import pytest
from sqlalchemy import event, select
from tests.workers.core.ledger.after import answer
from tests.workers.features.webhooks.office import ORIGINS, Office
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import evaluation

from headrace_schemas import (
    Answer,
    Category,
    DeadLetter,
    Decisions,
    JobCancelled,
    JobHeld,
    ModerationVerdict,
    Result,
    Usage,
)
from headrace_schemas.callback import JOB_ENDS, Callback
from headrace_schemas.codec import encode_value
from headrace_schemas.decision import PredicateAnswer
from headrace_workers.core.ledger.outbox import outgoing
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import OUTBOX
from headrace_workers.features.webhooks.store.deliveries import Range
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.tables import CALLBACKS_OF_JOBS
from headrace_workers.features.webhooks.telling import Wording, name_of, of_job, of_response, response_name_of

JOB = "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00"


def result(finish_reason="stop", status="completed", **fields):
    answer = Answer(
        text=None if status == "blocked" else "the answer", finish_reason=finish_reason, model="m",
        quantization="int8", usage=Usage(prompt_tokens=3, completion_tokens=4),
    )  # fmt: skip
    action = "block" if status == "blocked" else "allow"
    known = {"job_id": JOB, "tenant": "t", "status": status, "kind": "generation", "answer": answer,
             "moderation": ModerationVerdict(action=action), "accepted_at": datetime.now(UTC)}  # fmt: skip
    return Result(**(known | fields))


CANCELLED = JobCancelled(job_id=JOB, tenant="t", reason="enough")
HELD = JobHeld(job_id=JOB, tenant="t", stage="moderate", reason="hate (1 x)", needs_person=True)
DEAD = DeadLetter(job_id=JOB, tenant="t", category=Category.PERMANENT, reason="no " * 600, stage="generate", topic="x",
                  size=1, original="a", encoding="utf-8", attempts=3)  # fmt: skip


def said(end, whole=False, wording=None):
    content = of_job(end, JOB, encode_value(end), "a-b-c", 1_700_000_000_500, whole, wording or Wording())
    return json.loads(content), len(content)


@pytest.mark.parametrize(
    ("end", "name", "response"),
    [
        (result(), "job.completed", "response.completed"),
        (result("length"), "job.completed", "response.incomplete"),
        (result(status="blocked"), "job.completed", "response.incomplete"),
        (DEAD.model_copy(update={"failure": "truncated"}), "job.failed", "response.incomplete"),
        (DEAD.model_copy(update={"failure": "unparsable"}), "job.failed", "response.failed"),
        (CANCELLED, "job.cancelled", "response.cancelled"),
        (DEAD, "job.failed", "response.failed"),
        (HELD, "job.held", None),
    ],
)
def test_ends_have_names(end, name, response):
    assert (name_of(end), response_name_of(end)) == (name, response)


def test_that_a_job_is_held_is_told_with_the_reason():
    body, _ = said(HELD)
    assert body["data"] == {"id": JOB, "tenant": "t", "status": "held", "stage": "moderate", "reason": "hate (1 x)",
                            "needs_person": True, "link": f"/v1/jobs/{JOB}"}  # fmt: skip


def test_a_decision_is_told_with_its_model_and_tokens_and_without_its_answers():
    made = Decisions(
        model="d", quantization="int8", usage=Usage(prompt_tokens=5, completion_tokens=1),
        answers=(PredicateAnswer(type="predicate", probability=0.5),),
    )  # fmt: skip
    body, _ = said(result(kind="decision", answer=None, decisions=made, moderation=None))
    data = body["data"]
    assert (data["model"], data["usage"]) == ("d", {"prompt_tokens": 5, "completion_tokens": 1})
    assert not {"finish_reason", "decisions", "receipt"} & data.keys()


def test_a_result_is_told_without_its_text():
    body, _ = said(result(metadata={"order": "17"}))
    assert (body["id"], body["created_at"], body["timestamp"]) == ("evt_abc", 1_700_000_000, "2023-11-14T22:13:20.500Z")
    data = body["data"]
    assert (data["model"], data["finish_reason"], data["moderation"]) == ("m", "stop", "allow")
    assert (data["usage"], data["metadata"]) == ({"prompt_tokens": 3, "completion_tokens": 4}, {"order": "17"})
    assert data["link"] == f"/v1/jobs/{JOB}"
    assert "the answer" not in json.dumps(body)


def test_other_ends_are_told_with_their_reasons():
    assert said(CANCELLED)[0]["data"] == {
        "id": JOB, "tenant": "t", "status": "cancelled", "reason": "enough", "link": f"/v1/jobs/{JOB}",
    }  # fmt: skip
    data = said(DEAD)[0]["data"]
    assert (data["status"], data["category"], data["stage"], data["attempts"]) == ("failed", "permanent", "generate", 3)


def test_the_whole_is_told_where_that_was_asked_for():
    body, _ = said(result(), whole=True)
    assert body["data"]["receipt"]["answer"]["text"] == "the answer"
    assert "shortened" not in body["data"]


def test_a_body_is_bounded():
    many = result(metadata={str(n): "x" * 1_000 for n in range(10)})
    body, size = said(many, whole=True, wording=Wording(most=12_000))
    assert size <= 12_000
    assert (body["data"]["shortened"], len(body["data"]["metadata"]), "receipt" in body["data"]) == (True, 10, False)
    body, size = said(many, whole=True, wording=Wording(most=2_000))
    assert size <= 2_000
    assert (body["data"]["shortened"], "metadata" in body["data"]) == (True, False)
    body, size = said(DEAD, wording=Wording(most=1_000))
    assert (size <= 1_000, "reason" in body["data"]) == (True, False)


def test_a_response_is_told_by_its_id():
    end = result()
    body = json.loads(of_response(end, "resp_1", encode_value(end), "m", 1, False, Wording(base="https://a.example")))
    assert (body["type"], body["data"]) == (
        "response.completed", {"id": "resp_1", "link": "https://a.example/v1/responses/resp_1"},
    )  # fmt: skip


def test_an_answer_without_its_format_is_told_with_the_failure_and_its_place():
    body, _ = said(DEAD.model_copy(update={"failure": "unparsable", "place": "/tall"}))
    assert (body["data"]["failure"], body["data"]["place"]) == ("unparsable", "/tall")
    assert {"failure", "place"}.isdisjoint(said(DEAD)[0]["data"])


def told(ledger):
    """What is told: type, subject, endpoint and URL of each delivery."""
    deliveries = ledger.of(Webhooks).deliveries(Range(), 100)
    return sorted((item.type, item.subject, item.endpoint_id, item.url or "") for item in deliveries)


def content(ledger):
    (found,) = ledger.of(Webhooks).deliveries(Range(), 100)
    return json.loads(ledger.of(Webhooks).delivery(found.id)[1])


def test_where_nobody_listens_nothing_is_read(ledger):
    office = Office(ledger)
    jobs = take_in(ledger, [evaluation(input=str(n)) for n in range(20)])
    for job in jobs:
        answer(ledger, job)
    records = [row.record for row in ledger.outbox(100)]
    asked, now = [], ledger.now()
    event.listen(ledger.engine, "before_cursor_execute", lambda *arguments: asked.append(arguments[2]))
    assert office.following.units(records, now) == []
    assert office.following.units([], now) == []
    statements = [item for item in asked if not item.startswith(("BEGIN", "PRAGMA"))]
    assert len(statements) == 1, statements


def test_a_registered_endpoint_hears_of_the_ends_that_it_asked_for(ledger):
    office = Office(ledger)
    all_, _ = office.register("http://127.0.0.1:1/")
    office.register("http://127.0.0.1:2/", events=("job.failed",))
    office.register("http://127.0.0.1:3/", tenant="other")
    (job,) = take_in(ledger, [evaluation()])
    answer(ledger, job)
    (row,) = ledger.read(select(OUTBOX))
    assert office.relay() == 1
    with writing(ledger.engine) as tx:
        tx.execute(OUTBOX.insert().values(dict(row._mapping)))  # the bridge died before it forgot the event
    office.relay()
    assert told(ledger) == [("job.completed", job, all_, "")]


def test_that_a_job_is_held_is_told_to_who_asked_for_it(ledger):
    office = Office(ledger)
    asked, _ = office.register("http://127.0.0.1:1/", events=("job.held",))
    office.register("http://127.0.0.1:2/", events=JOB_ENDS)
    place = "https://shop.example/hooks"
    jobs = take_in(ledger, [
        evaluation(callback=Callback(url=place)),
        evaluation(input="b", callback=Callback(url=place, events=("job.held",), response=True)),
    ])  # fmt: skip
    records = [
        outgoing(JobHeld(job_id=job, tenant="default", stage="moderate", reason="?", needs_person=True), event_id=job,
                 job_id=job, traceparent=None, correlationid=None, at_ms=1)
        for job in jobs
    ]  # fmt: skip
    found = sorted((unit.content.type, unit.content.subject, unit.content.url or "")
                   for unit in office.following.units(records, ledger.now()))  # fmt: skip
    assert found == sorted([("job.held", jobs[0], ""), ("job.held", jobs[1], ""), ("job.held", jobs[1], place)])
    assert {unit.endpoint for unit in office.following.units(records[:1], ledger.now())} == {asked}


def test_a_job_names_who_is_to_be_told(ledger):
    office = Office(ledger)
    named, _ = office.register("http://127.0.0.1:1/", events=())
    url = "https://shop.example/hooks?order=1"
    jobs = take_in(ledger, [
        evaluation(callback=Callback(url=url)),
        evaluation(input="b", callback=Callback(url="https://shop.example/other", events=("job.completed",))),
        evaluation(input="c", callback=Callback(url=url, events=("job.failed",))),
        evaluation(input="d", callback=Callback(endpoint=named)),
        evaluation(input="e"),
    ])  # fmt: skip
    office.end(*jobs)
    place = next(endpoint for endpoint in ledger.of(Webhooks).endpoints(origins=ORIGINS) if endpoint.origin == "place")
    assert (place.tenant, place.url) == ("default", "https://shop.example")
    assert told(ledger) == sorted([
        ("job.completed", jobs[0], place.id, url),
        ("job.completed", jobs[1], place.id, "https://shop.example/other"),
        ("job.completed", jobs[3], named, ""),
    ])  # fmt: skip
    assert len(ledger.read(select(CALLBACKS_OF_JOBS))) == 4


def test_a_place_that_was_met_a_moment_ago_is_not_written_again(ledger, monkeypatch):
    office, met = Office(ledger), []
    meet = ledger.of(Webhooks).met
    monkeypatch.setattr(ledger.of(Webhooks), "met", lambda places: (met.append(len(places)), meet(places)))
    for number, host in enumerate(("one", "one", "two")):
        url = f"https://{host}.example/{number}"
        office.end(*take_in(ledger, [evaluation(input=str(number), callback=Callback(url=url))]))
    assert met == [1, 1]
    assert {url for *_, url in told(ledger)} == {
        "https://one.example/0",
        "https://one.example/1",
        "https://two.example/2",
    }


def test_who_listens_and_is_named_is_told_once(ledger):
    office = Office(ledger)
    endpoint, _ = office.register("http://127.0.0.1:1/")
    (job,) = take_in(ledger, [evaluation(callback=Callback(endpoint=endpoint))])
    office.end(job)
    assert told(ledger) == [("job.completed", job, endpoint, "")]


def test_a_response_is_told_of_as_openai_does(ledger):
    office = Office(ledger)
    theirs, _ = office.register("http://127.0.0.1:1/", events=("response.completed",))
    ours, _ = office.register("http://127.0.0.1:2/", events=("job.completed",))
    (job,) = take_in(ledger, [evaluation(callback=Callback(response=True, url="https://shop.example/"))])
    office.end(job)
    place = next(
        endpoint.id for endpoint in ledger.of(Webhooks).endpoints(origins=ORIGINS) if endpoint.origin == "place"
    )
    assert told(ledger) == sorted([
        ("response.completed", f"resp_{job}", theirs, ""),
        ("job.completed", job, ours, ""),
        ("response.completed", f"resp_{job}", place, "https://shop.example/"),
    ])  # fmt: skip


def test_another_tenants_endpoint_is_not_told(ledger):
    office = Office(ledger)
    foreign, _ = office.register("http://127.0.0.1:1/", tenant="other", events=())
    jobs = take_in(ledger, [evaluation(callback=Callback(endpoint=foreign)),
                            evaluation(input="b", callback=Callback(endpoint="we_nobody"))])  # fmt: skip
    office.end(*jobs)
    office.deliver()
    rows = ledger.of(Webhooks).deliveries(Range(), 10)
    assert {row.state for row in rows} == {"dropped"}
    assert {row.error for row in rows} == {
        f"the tenant has no endpoint {foreign}", "the tenant has no endpoint we_nobody",
    }  # fmt: skip
