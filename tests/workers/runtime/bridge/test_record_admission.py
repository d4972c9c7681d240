import json
import random
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sqlalchemy import func, select
from tests.schemas.documents import documents, neighbours
from tests.services.tables import sqlite_tables
from tests.workers.runtime.bridge.records import (
    NOW,
    RULES,
    accept,
    cancel,
    embedding,
    evaluation,
    generation,
    moderation,
    record,
    replaced,
    review,
    without,
)
from tests.workers.runtime.bridge.refusing import GOOD, refused, value

from headrace_schemas import Contains, JsonSchema, Message, MinQuality, Regex, Rubric, Topic
from headrace_schemas.codec import decode_value
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.event_types import topic_for
from headrace_schemas.events import JobKind
from headrace_schemas.examples import EXAMPLES
from headrace_schemas.job import POLICY_MODEL, Lane
from headrace_schemas.limits import MAX_VALUE_BYTES
from headrace_schemas.topics import INBOUND
from headrace_workers.core.identity import refusal_id
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.dead_letters import Burial, ReceivedReview, Record
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.steps import BATCH, INTERACTIVE
from headrace_workers.core.pipeline.chain import links_in
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.task import unpack
from headrace_workers.core.tables import DEAD_LETTERS, JOBS, NEVER, OUTBOX
from headrace_workers.models.structured import schemas
from headrace_workers.models.structured.compiling import CompileAllowance
from headrace_workers.runtime.bridge.ingest import unquoted
from headrace_workers.runtime.bridge.record_admission import Accepted

TRACE = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


BAD_VALUES = {
    "not JSON": (b"\x80\x04not json", "JSON"),
    "cut": (value()[:-4], "JSON"),
    "no value": (None, "no value"),
    "a lone surrogate": (
        b'{"model":"echo","prompt":"\\ud800"}',
        "prompt: character 1 is half of a surrogate pair.*Cut between",
    ),
    "an unknown model": (value(model="gpt-9"), "'gpt-9'.*echo, other"),
    "a prompt over the context": (
        value(model="other", prompt=None, messages=[{"role": "user", "content": "a"}] * 4),
        "has 4000 tokens, and the context of other holds 3000",
    ),
    "what the template refuses": (value(model="other", prompt="unspeakable"), "template refuses these messages"),
    "an unknown judge": (value(criteria=[{"criterion": "rubric", "question": "Kind?", "model": "gpt-9"}]), "gpt-9"),
    "10 MB": (value(prompt="x" * 10_000_000), f"more than the {MAX_VALUE_BYTES}"),
    "a deadline in the past": (value(deadline="2001-01-01T00:00:00Z"), "2001-01-01.*passed"),
    "deep nesting": (b"[" * 100_000, ""),
    "a schema that names something twice": (
        value(output={"type": "json_schema", "json_schema": {}}).replace(b"{}", b'{"type":"object","type":"array"}'),
        "'type' is named twice",
    ),
    "a tool that names something twice": (
        value(tools=[{"name": "t", "parameters": {}}], tool_choice="required").replace(
            b"{}", b'{"title":"","title":""}'
        ),
        "'title' is named twice",
    ),
    "a callback to an inner address": (
        value(callback={"url": "https://169.254.169.254/latest"}),
        "callback.url: webhooks may not go there: 169.254.169.254 is not a public address",
    ),
    "a callback without TLS": (value(callback={"url": "http://shop.example/"}), "callback.url: the scheme is http"),
    "a callback to a wrong port": (value(callback={"url": "https://shop.example:22/"}), "callback.url: port 22"),
}


BAD_HEADERS = {
    **{f"no {name}": (without(GOOD, name), name) for name in ("ce_specversion", "ce_id", "ce_type", "ce_source")},
    "none at all": ((), "ce_specversion"),
    "an unknown type": (replaced(GOOD, "ce_type", b"headrace.job.poem.v1"), "poem"),
    "an expiry in the past": (replaced(GOOD, "ce_expirytime", b"2001-01-01T00:00:00Z"), "2001-01-01.*passed"),
}


def content(value):
    """What a job asks for; None where it cannot be read."""
    for kind in get_args(JobKind):
        with suppress(InvalidRecord):
            return decode_value(f"headrace.job.{kind}.v1", value).model_copy(update={"deadline": None})
    return None


@pytest.mark.parametrize(
    ("changes", "logged"),
    [
        ({"my secret": 1}, "'…': is no field that is known here"),
        ({"my_secret": 1}, "'…': is no field that is known here"),
        ({"it's \x1b[2J": 1}, "'…': is no field that is known here"),
        ({"metadata": {"My secret": 5}}, "metadata.'…': must be text, not a number"),
        ({"x y" * 500: "\ud800"}, "'…': character 1 is half of a surrogate pair"),
        ({"sampling": {"top_p": 0}}, "sampling.top_p: must be greater than 0"),
    ],
)
def test_the_log_has_no_field_name_that_only_its_sender_knows(changes, logged):
    found = refused(accept(record(value=value(**changes)), RULES))
    assert unquoted(found.reason).startswith(logged)


@pytest.mark.parametrize(("content", "reason"), BAD_VALUES.values(), ids=BAD_VALUES)
def test_a_bad_value_is_refused_with_what_is_wrong(content, reason):
    found = refused(accept(record(value=content), RULES), reason)
    assert found.value == (content or b"")


@pytest.mark.parametrize(("headers", "reason"), BAD_HEADERS.values(), ids=BAD_HEADERS)
def test_a_bad_envelope_is_refused_with_what_is_wrong(headers, reason):
    """A record whose attributes are missing or wrong is buried, and its headers are kept for people to see."""
    found = refused(accept(record(headers=headers), RULES), reason)
    assert set(found.headers) == {name for name, _ in headers}


@pytest.mark.parametrize("event_type", EXAMPLES)
def test_an_event_on_the_wrong_topic_is_refused(event_type):
    event = EXAMPLES[event_type]
    for topic in Topic:
        if topic is not topic_for(event):
            refused(accept(record(event, topic=topic), RULES), "^wrong topic: .* belong on")
        elif topic not in INBOUND:
            refused(accept(record(event), RULES), "is no job")


@pytest.mark.integration
@given(value=st.none() | st.binary(), headers=st.lists(st.tuples(st.text(), st.none() | st.binary()), max_size=9),
       topic=st.sampled_from(Topic), typed=st.sampled_from([None, *EXAMPLES]))  # fmt: skip
@settings(max_examples=300, deadline=None)
def test_no_bytes_raise(value, headers, topic, typed):
    named = replaced(GOOD, "ce_type", typed.encode()) if typed else ()
    refused(accept(Record(topic, 0, 0, (*headers, *named), value), RULES))


@pytest.mark.parametrize("kind", get_args(JobKind))
def test_any_valid_job_is_taken_or_refused_for_what_this_deployment_has(kind):
    for document in documents(event_type := f"headrace.job.{kind}.v1"):
        taken_or_refused(decode_value(event_type, json.dumps(document).encode()))


def taken_or_refused(event):
    found = accept(record(event), RULES)
    if isinstance(found, Burial):
        refused(
            found,
            "(no (model|embedder|moderator) is called)|(there is no application)|has passed|callback.url: |"
            "criteria\\.[0-9]+\\.(pattern|json_schema): ",
        )
        return
    assert isinstance(found, NewJob)
    assert len(found.steps) == 1
    assert found.steps[0].job_id == found.id
    assert (found.steps[0].tokens > 0, found.steps[0].rank) == (True, 9 - event.priority)


def test_a_job_comes_with_its_first_step():
    soon = datetime.fromtimestamp(NOW / 1000, UTC) + timedelta(minutes=5)
    job = generation(priority=9, lane=Lane.BATCH, deadline=soon, tenant="shop", idempotency_key="k")
    given_record = record(job)
    headers = replaced(given_record.headers, "ce_traceparent", TRACE.encode())
    found = accept(record(job, headers=headers), RULES)
    assert isinstance(found, NewJob)
    (step,) = found.steps
    assert (found.id, found.tenant, found.kind) == (job.job_id("unused"), "shop", "generation")
    assert (step.stage, step.queue, step.lane, step.rank) == ("generate", "model.echo", BATCH, 0)
    assert step.deadline == NOW + 300_000
    assert found.traceparent == TRACE
    assert found.payload == given_record.value


def test_the_earlier_of_two_deadlines_counts():
    first, second = (datetime.fromtimestamp(NOW / 1000, UTC) + timedelta(hours=h) for h in (1, 2))
    taken = [
        accept(record(job, headers=replaced(GOOD, "ce_expirytime", expiry.isoformat().encode())), RULES)
        for job, expiry in ((generation(deadline=first), second), (generation(deadline=second), first))
    ]
    assert [item.steps[0].deadline for item in taken] == [NOW + 3_600_000] * 2
    assert accept(record(), RULES).steps[0].deadline == NEVER


def test_a_long_system_prompt_is_known_at_the_door():
    """By the same number for all that share it, so that they are run together; others have none."""
    turns = [Message(role="system", content="You answer for a shop. " * 40), Message(role="user", content="hello")]
    jobs = [generation(prompt=None, messages=(turns[0], turns[1], *more)) for more in ((), turns[1:])]
    first, second = (accept(record(job), RULES).steps[0].prefix for job in jobs)
    assert first == second is not None
    assert accept(record(), RULES).steps[0].prefix is None


def test_an_evaluation_starts_at_the_judge():
    """Where no model is asked for it waits for any judge, else for the worker that holds the judge's model."""
    plain, rubric = evaluation(), evaluation(criteria=(Rubric(question="Kind?"),))
    assert accept(record(plain), RULES).steps[0].queue == "judge"
    with_judge = replace(RULES, pipeline=Pipeline(judge_model="other"))
    step = accept(record(rubric), with_judge).steps[0]
    assert (step.stage, step.queue, step.lane) == ("rubric", "model.other", INTERACTIVE)
    refused(accept(record(rubric), replace(RULES, pipeline=Pipeline(judge_model="gone"))), "gone")


def test_an_embedding_starts_at_the_recall_workers():
    found = accept(record(embedding(input="three whole words", lane=Lane.BATCH)), RULES)
    (step,) = found.steps
    assert (found.kind, step.stage, step.queue, step.group_key, step.lane) == (
        "embedding", "embed", "embed", "embed", BATCH,
    )  # fmt: skip
    assert (step.tokens, step.sized) == (3, True)
    assert accept(record(embedding(input="a guess")), RULES).steps[0].tokens > 0


@pytest.mark.parametrize(
    ("job", "reason"),
    [
        (embedding(model="echo"), "no embedder is called 'echo'; there is: vectors"),
        (embedding(input="endless"), "has 257 tokens, and vectors reads 256 at most"),
        (moderation(model="omni"), "no moderator is called 'omni'; there is: headrace-policy"),
        (generation(criteria=(Regex(pattern="("),)), "criteria.0.pattern: the pattern is no RE2 regular expression: "),
        (generation(criteria=(JsonSchema(json_schema={"type": "text"}),)), "criteria.0.json_schema: the schema cannot"),
    ],
)
def test_what_nobody_here_can_do_is_refused(job, reason):
    refused(accept(record(job), RULES), reason)


def test_a_moderation_starts_at_the_moderator():
    for job in (moderation(), moderation(model=POLICY_MODEL)):
        found = accept(record(job), RULES)
        (step,) = found.steps
        assert (found.kind, step.stage, step.queue, step.sized) == ("moderation", "moderate", "moderate", False)


def test_a_wish_to_cancel_is_taken():
    job_id = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"
    asked = record(cancel(job_id, tenant="shop", reason="late"))
    assert accept(asked, RULES) == Cancellation(job_id, "shop", "late", None, None, asked)


def test_a_label_is_taken_unless_it_names_another_job():
    job_id = "6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11"
    said = record(review(job_id, tenant="shop"))
    assert accept(said, RULES) == ReceivedReview(review(job_id, tenant="shop"), said)
    told = refused(accept(replace(said, key=b"k"), RULES), "the value's job_id")
    assert (told.refers_to, told.tenant, told.job_id) == (job_id, "shop", None)
    both = json.loads(said.value or b"") | {"category": "profanity"}
    assert refused(accept(replace(said, value=json.dumps(both).encode()), RULES), "one of both").refers_to == job_id


def test_a_refused_job_is_named():
    """What could be read of the job is kept: who waits for it learns its end."""
    job = generation(model="gone", tenant="shop", idempotency_key="k")
    found = refused(accept(record(job), RULES), "gone")
    assert (found.job_id, found.refers_to, found.tenant) == (None, job.job_id("unused"), "shop")


def test_a_refusal_keeps_a_bounded_part_of_its_headers():
    found = refused(accept(record(headers=[(f"{n}" + "n" * 5_000, b"v" * 5_000) for n in range(99)]), RULES))
    assert len(found.headers) == 64
    assert {(len(name), len(value)) for name, value in found.headers.items()} == {(1024, 1024)}


def spoilt_records(count):
    """So many records at offsets of their own, each one change away from one of a few that ingest takes."""
    rubric = Rubric(question="Kind?", model="other")
    sent = [
        record(generation(tenant="shop", priority=9, idempotency_key="k", metadata={"a": "b"})),
        record(
            generation(prompt=None, messages=(Message(role="system", content="s"), Message(role="user", content="ü")))
        ),
        record(evaluation(criteria=(Contains(text="a"), rubric), context="c")),
        record(cancel("6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11", reason="late")),
    ]
    near = [list(neighbours(json.loads(item.value))) for item in sent]
    chance = random.Random(20)
    for offset in range(count):
        number = chance.randrange(len(sent))
        document = chance.choice([json.loads(sent[number].value), chance.choice(near[number])])
        yield replace(sent[number], value=json.dumps(document).encode(), offset=offset)


@pytest.mark.integration
def test_three_thousand_spoilt_records_add_up(tmp_path):
    """No record raises; in the ledger each refusal is one dead letter, each job accepted is there, nothing else.

    What is accepted already is told again only where its content is another, or its record is wrong.
    """
    ledger = Ledger.at(sqlite_tables(tmp_path / "ledger.db"))
    decided = [accept(spoilt, RULES) for spoilt in spoilt_records(3_000)]
    jobs = [item for item in decided if isinstance(item, NewJob)]
    burials = [item for item in decided if isinstance(item, Burial)]
    wishes = [item for item in decided if isinstance(item, Cancellation)]
    assert len(jobs) + len(burials) + len(wishes) == 3_000
    assert min(len(jobs), len(burials), len(wishes)) > 50  # the fuzz reaches every kind of end
    new, accepted, owners, told = 0, {}, {}, set()
    for start in range(0, 3_000, 500):  # as the bridge does it: a poll at a time
        part = decided[start : start + 500]
        new += ledger.ingest(*([i for i in part if isinstance(i, kind)] for kind in (NewJob, Burial, Cancellation))).new
        for item in (i for i in part if isinstance(i, NewJob)):
            if accepted.setdefault(item.id, content(item.payload)) != content(item.payload):
                told.add(refusal_id(item.record.topic, item.record.partition, item.record.offset))
        for item in (i for i in part if isinstance(i, Cancellation)):
            if owners.setdefault(item.job_id, item.tenant) != item.tenant:
                told.add(refusal_id(item.record.topic, item.record.partition, item.record.offset))
        for item in (i for i in part if isinstance(i, Burial)):
            if not item.sound or accepted.get(item.refers_to, ()) != content(item.value):
                told.add(item.id)
    letters = ledger.read(select(DEAD_LETTERS.c.id, DEAD_LETTERS.c.reason))
    assert {row.id for row in letters} == told
    assert (len(letters), all(row.reason for row in letters)) == (len(told), True)
    kinds = dict(ledger.read(select(JOBS.c.kind, func.count()).group_by(JOBS.c.kind)))
    assert new == len({job.id for job in jobs})
    assert sum(count for kind, count in kinds.items() if kind != "unknown") == new
    announced = [row.topic for row in ledger.read(select(OUTBOX.c.topic))]
    assert announced.count("dead") == len(told)
    ledger.close()


def test_a_job_costs_what_its_model_counts():
    """Its prompt by the model's own tokenizer and what it may write; by a guess where the model cannot say."""
    counted = accept(record(generation(model="other", sampling={"max_tokens": 7})), RULES)
    guessed = accept(record(generation(prompt="one two", sampling={"max_tokens": 7})), RULES)
    assert isinstance(counted, NewJob)
    assert isinstance(guessed, NewJob)
    assert [step.tokens for step in counted.steps + guessed.steps] == [1_007, 9]
    assert (counted.cost, guessed.cost) == (1_007, 9)


def test_a_job_that_may_be_answered_again_costs_all_its_answers():
    floor = {"min_quality": MinQuality(criterion="contains", value=1), "criteria": (Contains(text="x"),)}
    found = accept(record(generation(model="other", sampling={"max_tokens": 7}, **floor)), RULES)
    assert isinstance(found, NewJob)
    assert ([step.tokens for step in found.steps], found.cost > 2 * 1_007 + 7) == ([1_007], True)


def test_a_chain_is_pinned_with_what_each_of_its_models_costs():
    for model in (("echo", "other"), "careful"):
        job = generation(model=model)
        found = accept(record(job), RULES)
        assert isinstance(found, NewJob)
        (step,) = found.steps
        context, _ = unpack(step.context)
        first, second = links_in(context)
        assert (step.queue, first.model, first.tokens) == ("model.echo", "echo", step.tokens)
        assert (second.model, second.tokens, second.skipped) == ("other", 1_000 + job.sampling.max_tokens, None)
        assert found.payload == record(job).value
    assert accept(record(), RULES).steps[0].context is None


def test_a_model_of_a_chain_that_cannot_hold_the_prompt_is_skipped():
    turns = [Message(role="user" if n % 2 == 0 else "assistant", content="word") for n in range(5)]
    found = accept(record(generation(model="careful", prompt=None, messages=tuple(turns))), RULES)
    assert isinstance(found, NewJob)
    _, second = links_in(unpack(found.steps[0].context)[0])
    assert second.skipped == "the prompt has 5000 tokens, and the context of other holds 3000"
    refused = accept(record(generation(model=("other", "echo"), prompt=None, messages=tuple(turns))), RULES)
    assert isinstance(refused, Burial)
    assert "5000 tokens" in refused.reason


def test_every_model_of_a_chain_must_be_known():
    """Not only the first: the job would meet it too late."""
    refused = accept(record(generation(model=("echo", "none"))), RULES)
    assert isinstance(refused, Burial)
    assert "'none'" in refused.reason


@pytest.mark.integration  # formats are compiled in a process of their own
def test_slow_formats_of_one_tenant_are_refused(monkeypatch: pytest.MonkeyPatch):
    """Once its new formats took too long it is told so, and when to come again. Others' new formats are taken."""
    allowance = CompileAllowance()
    monkeypatch.setattr(schemas, "_allowance", allowance)

    def sent(tenant: str, title: str) -> Accepted:
        output = {"type": "json_schema", "json_schema": {"title": title, "type": "object"}}
        return accept(record(generation(tenant=tenant, output=output)), RULES)

    assert isinstance(sent("slow", "before"), NewJob)
    allowance.use("slow", 20.0)
    found = sent("slow", "after")
    assert isinstance(found, Burial)
    assert found.category == "quota"
    assert "again in" in found.reason
    assert isinstance(sent("slow", "before"), NewJob), "a format that was checked before"
    assert isinstance(sent("other", "after"), NewJob)
