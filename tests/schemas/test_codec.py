"""The codec: what is written can be read, and what is wrong is refused with a reason."""

import contextlib
import json
from typing import get_args

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.schemas.documents import documents

from headrace_schemas import GenerationJob, InvalidRecord, Message
from headrace_schemas.codec import decode, decode_job, decode_value, encode_given, encode_value
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.event_types import (
    EVENTS,
    Event,
    add_types,
    kind_of,
    known_types,
    type_of,
    types_on,
)
from headrace_schemas.events import JobCancelled, JobKind
from headrace_schemas.examples import EXAMPLES
from headrace_schemas.limits import MAX_VALUE_BYTES
from headrace_schemas.topics import INBOUND, Topic

GENERATION = "headrace.job.generation.v1"
GOOD = {"model": "m", "prompt": "hello"}
GIVEN_TEMPERATURE = b'{"model": "m", "prompt": "p", "sampling": {"temperature": %b}}'


def headers(**changes: str | None) -> list[tuple[str, bytes]]:
    found = {"ce_specversion": "1.0", "ce_id": "1", "ce_source": "/test", "ce_type": GENERATION} | changes
    return [(name, value.encode()) for name, value in found.items() if value is not None]


def test_every_type_has_an_example_and_a_topic() -> None:
    names, classes = [row.name for row in EVENTS], [row.cls for row in EVENTS]
    assert sorted(names) == sorted(EXAMPLES)
    assert len(names) == len(set(classes))
    assert set(classes) == set(get_args(Event))
    assert {row for topic in Topic for row in types_on(topic)} == set(EVENTS)


def test_each_event_is_where_its_readers_look() -> None:
    names = {topic: [row.name.removeprefix("headrace.") for row in types_on(topic)] for topic in Topic}
    assert names == {
        "jobs.generation": ["job.generation.v1"],
        "jobs.evaluation": ["job.evaluation.v1"],
        "jobs.embedding": ["job.embedding.v1"],
        "jobs.moderation": ["job.moderation.v1"],
        "jobs.decision": ["job.decision.v1"],
        "jobs.tuning": ["job.tuning.v1"],
        "jobs.cancellation": ["job.cancel.v1"],
        "reviews": ["review.v1"],
        "outputs": ["output.v1"],
        "moderated": ["moderated.v1"],
        "held": ["job.held.v1"],
        "results": ["result.v1", "job.cancelled.v1"],
        "dead": ["dead.v1"],
        "budgets": ["budget.reached.v1"],
        "policies": ["policy.switched.v1", "policy.refused.v1"],
        "models": ["breaker.opened.v1", "breaker.closed.v1"],
        "applications": ["application.labelled.v1"],
        "decided": ["review.decided.v1"],
    }


def test_a_feature_adds_no_event_that_cannot_be_told_from_others_or_shown() -> None:
    """Two classes under one name could not be read, and the exported contract has an example of each event."""
    cancelled = next(row for row in EVENTS if row.cls is JobCancelled)
    example = JobCancelled(job_id="7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00", tenant="default")
    for added, error in (
        (cancelled._replace(name="example.v1"), "the event type example.v1 has no example"),
        (cancelled._replace(example=example), f"two event types have the name {cancelled.name}"),
    ):
        with pytest.raises(ConfigurationError, match=error):
            add_types([added])
    assert known_types() == EVENTS


@settings(max_examples=200, deadline=None)
@given(value=st.binary(max_size=200), event_type=st.sampled_from(sorted(EXAMPLES)))
def test_any_bytes_are_read_or_refused(value: bytes, event_type: str) -> None:
    with contextlib.suppress(InvalidRecord):
        assert type_of(decode_value(event_type, value)) == event_type


def test_a_job_is_read_by_its_kind() -> None:
    """The one that receipts name. Of one that was cancelled before it came nobody knows the kind."""
    for kind in get_args(JobKind):
        job = EXAMPLES[f"headrace.job.{kind}.v1"]
        assert decode_job(kind, encode_value(job)) == job
        assert kind_of(job) == kind
    with pytest.raises(InvalidRecord, match="'unknown' is no kind of job"):
        decode_job("unknown", b"")
    with pytest.raises(InvalidRecord, match="output"):
        decode_job("evaluation", encode_value(EXAMPLES[GENERATION]))


def test_absent_fields_are_left_out() -> None:
    assert b"null" not in encode_value(GenerationJob(model="m", prompt="hello"))


@pytest.mark.parametrize(
    ("value", "place"),
    [
        (b'{"model": "m", "prompt": "\\ud800"}', "prompt: character 1 "),
        (b'{"model": "m", "prompt": "\xed\xa0\x80"}', "prompt: character 1 "),
        (b'{"model": "m", "prompt": "ok \\ud83d\\ude00 \\uD83D cut"}', "prompt: character 6 "),
        (b'{"model": "m", "prompt": "\\udc00", "prompt": "the second counts"}', "prompt: character 1 "),
        (b'{"model": "m", "messages": [{"role": "user", "content": "a\\ud800"}]}', "messages.0.content: character 2 "),
        (b'{"model": "m", "prompt": "p", "metadata": {"k": "\\udfff"}}', "metadata.k: character 1 "),
        (b'{"model": "m", "prompt": "p", "metadata": {"\\udfff": "v"}}', "metadata.(a field's name): character 1 "),
    ],
)
def test_half_a_character_is_named_with_its_field(value: bytes, place: str) -> None:
    with pytest.raises(InvalidRecord) as caught:
        decode_value(GENERATION, value)
    reason = str(caught.value)
    assert reason.startswith(place)
    assert "Cut between characters" in reason
    assert 'cut"' not in reason
    reason.encode()  # it goes into a dead letter


def test_a_document_that_is_wrong_elsewhere_is_refused_for_that() -> None:
    for value in (b'{"prompt": "\\ud800"', b"[" * 100_000 + b'"\\ud800"', b'{"prompt": "\\ud83d\\ude00", }'):
        with pytest.raises(InvalidRecord, match=r"not JSON|nested too deeply"):
            decode_value(GENERATION, value)
    job = decode_value(GENERATION, b'{"model": "m", "prompt": "\\ud83d\\ude00"}')
    assert isinstance(job, GenerationJob)
    assert job.prompt == "\N{GRINNING FACE}"


def test_a_deeply_nested_surrogate_is_found() -> None:
    """As deep as JSON is read at all."""
    with pytest.raises(InvalidRecord, match=r"^(0\.)+0: character 1 "):
        decode_value(GENERATION, b"[" * 150 + b'"\\ud800"' + b"]" * 150)


def test_a_refusal_does_not_repeat_the_content() -> None:
    with pytest.raises(InvalidRecord) as caught:
        decode_value(GENERATION, json.dumps({"model": "m", "prompt": "my secret\0"}).encode())
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("event_type", ["headrace.job.generation.v2", "headrace.job.generation", "com.example.other"])
def test_an_unknown_type_or_version_is_refused(event_type: str) -> None:
    """A type or a version of a type that we do not know is never guessed at."""
    with pytest.raises(InvalidRecord, match="unknown"):
        decode(headers(ce_type=event_type), json.dumps(GOOD).encode())


@pytest.mark.parametrize("name", ["ce_specversion", "ce_id", "ce_source", "ce_type"])
def test_a_missing_header_is_refused(name: str) -> None:
    with pytest.raises(InvalidRecord, match=name):
        decode(headers(**{name: None}), json.dumps(GOOD).encode())


def test_another_version_of_the_spec_is_refused() -> None:
    with pytest.raises(InvalidRecord, match=r"0\.3"):
        decode(headers(ce_specversion="0.3"), json.dumps(GOOD).encode())


@pytest.mark.parametrize("event_type", [row.name for row in EVENTS if row.topic not in INBOUND])
def test_a_reader_passes_over_what_a_later_version_tells(event_type: str) -> None:
    document = json.loads(encode_value(EXAMPLES[event_type]))
    for stage in (document, *document.get("stages", []), *document.get("moderation", {}).get("findings", [])):
        stage["added_later"] = {"a": 1}
    assert decode_value(event_type, json.dumps(document).encode()) == EXAMPLES[event_type]


def test_the_bound_of_a_value_is_the_byte() -> None:
    value = json.dumps(GOOD).encode()
    assert decode_value(GENERATION, value.ljust(MAX_VALUE_BYTES))
    with pytest.raises(InvalidRecord, match="the value has 1000001 bytes, more than the 1000000 that are taken"):
        decode_value(GENERATION, value.ljust(MAX_VALUE_BYTES + 1))


def test_the_bound_of_a_text_counts_characters() -> None:
    longest = GOOD | {"prompt": "\N{GRINNING FACE}" * 200_000}
    assert decode_value(GENERATION, json.dumps(longest, ensure_ascii=False).encode())
    with pytest.raises(InvalidRecord, match="prompt: has more than 200000 characters"):
        decode_value(GENERATION, json.dumps(GOOD | {"prompt": "x" * 200_001}).encode())


def test_of_a_key_that_comes_twice_the_last_counts() -> None:
    """As most readers of JSON have it; in the job's identity too, so that there is one answer."""
    job = decode_value(GENERATION, b'{"model": "m", "prompt": "p", "tenant": "a", "tenant": "b"}')
    assert isinstance(job, GenerationJob)
    assert job.tenant == "b"


def test_null_is_absent_where_it_may_be() -> None:
    nulls = dict.fromkeys(("idempotency_key", "deadline", "reference", "prompt"))
    turns = [{"role": "user", "content": "c"}]
    document = {"model": "m", "messages": turns, "sampling": {"seed": None}, **nulls}
    job = decode_value(GENERATION, json.dumps(document).encode())
    assert job == GenerationJob(model="m", messages=(Message(role="user", content="c"),))
    for field in ("tenant", "lane", "priority", "metadata", "criteria", "messages", "sampling"):
        with pytest.raises(InvalidRecord, match=f"^{field}: must be "):
            decode_value(GENERATION, json.dumps(GOOD | {field: None}).encode())


@pytest.mark.parametrize("number", ["1e-400", "0.1e1", "-0", "-0.0", "2E0"])
def test_a_number_may_be_written_in_many_ways(number: str) -> None:
    """As JSON allows it; what is too small for a double is zero."""
    assert decode_value(GENERATION, GIVEN_TEMPERATURE % number.encode())


@pytest.mark.parametrize("number", ["1e400", "-1e400", "9" * 400, "2.0000001", "-1e-300"])
def test_a_number_that_is_too_large_is_refused_with_its_field(number: str) -> None:
    with pytest.raises(InvalidRecord, match=r"^sampling\.temperature: must be "):
        decode_value(GENERATION, GIVEN_TEMPERATURE % number.encode())


def test_a_job_that_is_sent_without_its_defaults_is_the_same_job() -> None:
    for document in documents(GENERATION):
        job = decode_value(GENERATION, json.dumps(document).encode())
        assert isinstance(job, GenerationJob)
        assert decode_value(GENERATION, encode_given(job)) == job
