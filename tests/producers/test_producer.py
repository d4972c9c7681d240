"""The contract of a producer, on memory, the embedded broker and Apache Kafka alike."""

import json
import uuid
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest

from headrace_producers import InvalidJob, MemoryProducer, Producer, ProducerClosed
from headrace_schemas import (
    CancelJob,
    Choice,
    DecisionJob,
    EmbeddingJob,
    EvaluationJob,
    ExactMatch,
    GenerationJob,
    JsonValid,
    Message,
    ModerationJob,
    Sampling,
    Topic,
    TuningJob,
)
from headrace_schemas.codec import decode
from headrace_schemas.job import JOB_NAMESPACE, Lane
from headrace_schemas.review import Review
from headrace_schemas.tuning import Lora


def test_generate_sends_one_record_that_says_what_was_asked(transport):
    deadline = datetime(2031, 5, 1, 12, 0, tzinfo=UTC)
    trace = f"00-{'a' * 32}-{'b' * 16}-01"
    job_id = transport.producer.generate(
        messages=[{"role": "system", "content": "Be short."}, Message(role="user", content="Why?")],
        temperature=0.5,
        max_tokens=7,
        stop=["\n"],
        lane="batch",
        priority=9,
        deadline=deadline,
        idempotency_key="k1",
        metadata={"row": "1"},
        criteria=[ExactMatch(), JsonValid()],
        reference="Because.",
        traceparent=trace,
        correlationid="basket 12",
    )
    transport.producer.flush()
    [record] = transport.sent()
    envelope, event = decode(record.headers, record.value)
    assert event == GenerationJob(
        model="tiny",
        messages=(Message(role="system", content="Be short."), Message(role="user", content="Why?")),
        sampling=Sampling(temperature=0.5, max_tokens=7, stop=("\n",)),
        lane=Lane.BATCH,
        priority=9,
        deadline=deadline,
        idempotency_key="k1",
        tenant="acme",
        metadata={"row": "1"},
        criteria=(ExactMatch(), JsonValid()),
        reference="Because.",
    )
    assert (record.topic, record.key) == (Topic.GENERATION, job_id.encode())
    assert (envelope.subject, envelope.partitionkey, envelope.source) == (job_id, job_id, "/shop")
    assert (envelope.traceparent, envelope.expirytime) == (trace, deadline)
    assert envelope.correlationid == "basket 12"


def test_evaluate_goes_to_its_own_topic(transport):
    job_id = transport.producer.evaluate(
        input="2+2?", output="4", context="sums", reference="4", criteria=[ExactMatch()], tenant="other"
    )
    transport.producer.flush()
    [record] = transport.sent()
    assert record.topic is Topic.EVALUATION
    assert decode(record.headers, record.value)[1] == EvaluationJob(
        input="2+2?", output="4", context="sums", reference="4", criteria=(ExactMatch(),), tenant="other"
    )
    assert record.key.decode() == job_id


def test_embed_goes_to_its_own_topic(transport):
    job_id = transport.producer.embed(input="a mill", dimensions=64, lane="batch", metadata={"row": "1"})
    transport.producer.embed(input="a mill", model="other", deadline=timedelta(hours=1), correlationid="basket 12")
    transport.producer.flush()
    sent = [(record, *decode(record.headers, record.value)) for record in transport.sent()]
    second, first = sorted(sent, key=lambda each: each[0].key.decode() == job_id)  # they lie in partitions of their own
    assert (first[0].topic, first[0].key.decode()) == (Topic.EMBEDDING, job_id)
    assert first[2] == EmbeddingJob(
        model="all-minilm-l6-v2", input="a mill", dimensions=64, lane=Lane.BATCH, tenant="acme", metadata={"row": "1"}
    )
    assert (second[2].model, second[1].correlationid) == ("other", "basket 12")
    assert second[1].expirytime is not None


def test_moderate_goes_to_its_own_topic(transport):
    job_id = transport.producer.moderate(input="a mill", idempotency_key="k", tenant="other")
    transport.producer.flush()
    [record] = transport.sent()
    assert (record.topic, record.key.decode()) == (Topic.MODERATION, job_id)
    assert decode(record.headers, record.value)[1] == ModerationJob(input="a mill", idempotency_key="k", tenant="other")


def test_decide_goes_to_its_own_topic(transport):
    asked = {"type": "choice", "instructions": "Is it?", "choices": [{"value": True}, {"value": "true"}]}
    job_id = transport.producer.decide([asked], input="a mill", model=["small", "large"], screen=True, tenant="other")
    transport.producer.flush()
    [record] = transport.sent()
    assert (record.topic, record.key.decode()) == (Topic.DECISION, job_id)
    assert decode(record.headers, record.value)[1] == DecisionJob(
        input="a mill", model=("small", "large"), questions=(Choice.model_validate(asked),), screen=True, tenant="other"
    )
    with pytest.raises(InvalidJob, match=r"questions\.0\.choices: at least 2"):
        transport.producer.decide([{**asked, "choices": [{"value": True}]}], input="a mill")


def test_tune_goes_to_its_own_topic(transport):
    fields = {"training_file": "file-1", "suffix": "tickets", "epochs": 2, "tenant": "other"}
    job_id = transport.producer.tune(**fields, model="base", lora={"rank": 4}, quantizations=["int8", "float32"])
    transport.producer.flush()
    [record] = transport.sent()
    assert (record.topic, record.key.decode()) == (Topic.TUNING, job_id)
    assert decode(record.headers, record.value)[1] == TuningJob(
        **fields, model="base", lora=Lora(rank=4), quantizations=("int8", "float32")
    )
    with pytest.raises(InvalidJob, match="epochs"):
        transport.producer.tune(training_file="file-1", epochs=51)


def test_cancel_goes_to_its_own_topic_under_the_job_key(transport):
    job_id = transport.producer.generate(prompt="Hello")
    transport.producer.cancel(job_id, reason="changed my mind")
    transport.producer.flush()
    [record] = [record for record in transport.sent() if record.topic is Topic.CANCELLATION]
    assert decode(record.headers, record.value)[1] == CancelJob(job_id=job_id, tenant="acme", reason="changed my mind")
    assert record.key == job_id.encode()


def test_a_review_goes_to_its_own_topic_under_the_job_key(transport):
    job_id, noon = "7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00", datetime(2026, 1, 31, 12, tzinfo=UTC)
    said = {"job_id": job_id, "criterion": "polite", "label": True, "who": "ann", "probability": 0.5, "tenant": "shop"}
    ids = [transport.producer.review(**said, when=noon) for _ in range(2)]
    other = transport.producer.review(job_id=job_id, category="profanity", score=0.25, who="bob")
    transport.producer.flush()
    first, second, last = transport.sent()
    assert (first.topic, first.key.decode()) == (Topic.REVIEWS, job_id)
    envelope, event = decode(first.headers, first.value)
    assert (envelope.type, envelope.subject) == ("headrace.review.v1", job_id)
    assert event == Review(**said, when=noon)
    assert ids == [event.id, decode(second.headers, second.value)[1].id]
    again = decode(last.headers, last.value)[1]
    assert (again.category, again.score, again.tenant, again.id) == ("profanity", 0.25, "acme", other)
    with pytest.raises(InvalidJob, match="give one of both"):
        transport.producer.review(job_id=job_id, label=True, who="ann")


def test_records_of_one_job_stay_in_order(transport):
    for number in range(200):
        transport.producer.generate(prompt=f"{number}", idempotency_key=f"k{number % 3}")
    transport.producer.flush()
    seen: dict[bytes, list[int]] = {}
    for record in transport.sent():
        seen.setdefault(record.key, []).append(int(decode(record.headers, record.value)[1].prompt))
    assert sorted(len(numbers) for numbers in seen.values()) == [66, 67, 67]
    assert all(numbers == sorted(numbers) for numbers in seen.values())


def test_the_same_key_and_tenant_give_the_same_job(transport):
    first = transport.producer.generate(prompt="a", idempotency_key="order-7")
    again = transport.producer.generate(prompt="a", idempotency_key="order-7")
    other = transport.producer.generate(prompt="a", idempotency_key="order-7", tenant="rival")
    assert first == again == str(uuid.uuid5(JOB_NAMESPACE, "acme\norder-7"))
    assert other == str(uuid.uuid5(JOB_NAMESPACE, "rival\norder-7"))
    assert transport.producer.generate(prompt="a") != transport.producer.generate(prompt="a")


def test_submit_again_under_the_same_event_id_is_the_same_event(transport):
    job = GenerationJob(model="tiny", prompt="again", tenant="acme")
    first = transport.producer.submit(job, event_id="event-1")
    assert transport.producer.submit(job, event_id="event-1") == first
    transport.producer.flush()
    assert {decode(record.headers, record.value)[0].id for record in transport.sent()} == {"event-1"}


def test_threads_may_share_a_producer(transport):
    def send(thread: int) -> list[str]:
        return [transport.producer.generate(prompt=f"{thread}/{number}") for number in range(100)]

    with ThreadPoolExecutor(8) as pool:
        job_ids = [job_id for sent in pool.map(send, range(8)) for job_id in sent]
    transport.producer.flush()
    keys = [record.key.decode() for record in transport.sent()]
    assert sorted(keys) == sorted(job_ids)
    assert len(set(keys)) == 800


def test_close_sends_what_is_left_and_refuses_what_comes_after(transport):
    with transport.producer as producer:
        producer.generate(prompt="last words")
    assert len(transport.sent()) == 1
    with pytest.raises(ProducerClosed):
        transport.producer.generate(prompt="too late")
    transport.producer.close()


def test_a_job_names_an_application_instead_of_a_model():
    memory = MemoryProducer()
    memory.generate(application="ticket-triage@3", variables={"ticket": "It burns"}, top_k=0)
    memory.generate(model="ticket-triage", variables={"ticket": "It burns"})
    first, second = (json.loads(record.value) for record in memory.records)
    assert first == {
        "application": "ticket-triage@3",
        "variables": {"ticket": "It burns"},
        "sampling": {"top_k": 0},
        "tenant": "default",
    }
    assert second == {
        "model": "ticket-triage",
        "variables": {"ticket": "It burns"},
        "tenant": "default",
        "sampling": {},
    }
    with pytest.raises(InvalidJob, match="both model and application are given"):
        memory.generate(model="m", application="a")


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({}, "neither prompt nor messages"),
        ({"prompt": "a", "temperature": 9}, "temperature"),
        ({"prompt": "a", "sampling": Sampling(), "max_tokens": 3}, "max_tokens"),
        ({"prompt": "a", "deadline": datetime(2031, 1, 1)}, "deadline"),
        ({"prompt": "a", "deadline": timedelta(seconds=-1)}, "deadline"),
        ({"prompt": "a", "deadline": timedelta.max}, "deadline: .* beyond the year 9999"),
        ({"prompt": "a", "correlationid": 5}, "correlationid"),
        ({"prompt": "lone \ud800"}, "prompt: holds half of a surrogate pair.*Cut between"),
        ({"prompt": "a", "traceparent": "00-zz"}, "traceparent"),
        ({"prompt": "a", "correlationid": "two\nlines"}, "correlationid"),
        ({"messages": [{"role": "user", "content": "é" * 200_000}] * 3}, "bytes"),
    ],
)
def test_bad_input_is_refused_at_the_call(arguments, named):
    producer = MemoryProducer()
    with pytest.raises(InvalidJob, match=named):
        producer.generate(**arguments)
    assert producer.records == ()


def test_refusals_do_not_repeat_the_text():
    with pytest.raises(InvalidJob) as caught:
        MemoryProducer().generate(prompt="my secret \x00")
    assert "my secret" not in str(caught.value)


def test_a_duration_counts_from_now():
    now = datetime(2030, 1, 1, tzinfo=UTC)
    producer = MemoryProducer(now=lambda: now)
    producer.generate(prompt="a", deadline=timedelta(minutes=5))
    [(_, job)] = producer.jobs
    assert job.deadline == now + timedelta(minutes=5)


def test_from_env_speaks_to_the_broker_that_the_environment_names(kafka, monkeypatch):
    monkeypatch.setenv("HEADRACE_KAFKA", kafka.address)
    monkeypatch.setenv("HEADRACE_TOPIC_PREFIX", kafka.prefix)
    with Producer.from_env() as producer:
        assert uuid.UUID(producer.generate(prompt="Hello"))
