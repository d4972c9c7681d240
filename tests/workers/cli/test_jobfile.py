import json
import re
from io import BytesIO
from typing import get_args

import pytest

from headrace_schemas import DecisionJob, EmbeddingJob, EvaluationJob, GenerationJob
from headrace_schemas.event_types import kind_of
from headrace_schemas.events import JobKind
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_schemas.tool import NamedTool
from headrace_workers.cli.asking import Once
from headrace_workers.cli.jobfile import MAX_LINE_BYTES, JobFile, WrongLine, WrongLines, parse_job
from headrace_workers.core.job_defaults import Defaults
from headrace_workers.features.batches.commands.run import ByContent
from headrace_workers.features.batches.commands.run_jobs import models_for

DEFAULTS = Defaults("tiny", {"tenant": "acme", "lane": "batch"}, {"max_tokens": 5}, embedder="vectors")


def job_file(text: bytes, identify=None) -> JobFile:
    return JobFile(BytesIO(text), "jobs.jsonl", DEFAULTS, identify or ByContent())


def test_a_line_with_an_output_is_an_evaluation():
    evaluation = parse_job(b'{"input":"q","output":"a","criteria":[{"criterion":"json_valid"}]}', DEFAULTS)
    generation = parse_job(b'{"prompt":"q"}', DEFAULTS)
    assert isinstance(evaluation, EvaluationJob)
    assert isinstance(generation, GenerationJob)
    assert generation.model == "tiny"


def test_a_line_that_says_it_wins_over_the_defaults():
    line = {"prompt": "q", "model": "big", "tenant": "other", "sampling": {"temperature": 0.5}}
    job = parse_job(json.dumps(line).encode(), DEFAULTS)
    assert isinstance(job, GenerationJob)
    assert (job.model, job.tenant, job.lane) == ("big", "other", "batch")
    assert (job.sampling.temperature, job.sampling.max_tokens) == (0.5, 5)


def test_a_line_with_a_format_is_a_generation():
    line = {"prompt": "p", "output": {"type": "json_schema", "json_schema": {"type": "object"}}}
    for given in (line, {"kind": "generation", **line}):
        job = parse_job(json.dumps(given).encode(), DEFAULTS)
        assert isinstance(job, GenerationJob)
        assert job.output == JsonSchemaFormat(json_schema={"type": "object"})
    with pytest.raises(WrongLine, match=r"output\.json_schema: must be an object"):
        parse_job(b'{"prompt":"p","output":{"type":"json_schema","json_schema":[]}}', DEFAULTS)
    tools = b'{"prompt":"p","tools":[{"name":"file"}],"tool_choice":{"name":"file"}}'
    assert parse_job(tools, DEFAULTS).tool_choice == NamedTool(name="file")


@pytest.mark.parametrize("kind", get_args(JobKind))
def test_a_line_may_name_its_kind(kind: JobKind):
    """And is then nothing else; what it lacks it gets, where its kind has that."""
    own = {
        "generation": {"prompt": "p"},
        "evaluation": {"input": "i", "output": "o", "criteria": [{"criterion": "json_valid"}]},
        "embedding": {"input": "i", "dimensions": 3},
        "moderation": {"input": "i"},
        "decision": {"input": "i", "questions": [{"type": "predicate", "instructions": "q"}]},
        "tuning": {"model": "m", "training_file": "file-1"},
    }[kind]
    job = parse_job(json.dumps({"kind": kind, **own}).encode(), DEFAULTS)
    assert kind_of(job) == kind
    assert (job.tenant, job.lane) == ("acme", "batch")
    if isinstance(job, EmbeddingJob):
        assert job.model == "vectors"
        assert parse_job(b'{"kind":"embedding","input":"i","model":"other"}', DEFAULTS).model == "other"


def test_a_line_with_questions_is_a_decision_by_the_default_model():
    line = b'{"input":"i","questions":[{"type":"predicate","instructions":"q"}]}'
    job = parse_job(line, DEFAULTS)
    assert isinstance(job, DecisionJob)
    assert job.model == DEFAULTS.model
    jobs = job_file(line + b"\n")
    jobs.check()
    assert jobs.models == {DEFAULTS.model: 1}


def test_a_file_that_asks_for_vectors_says_so():
    jobs = job_file(b'{"kind":"moderation","input":"a"}\n')
    jobs.check()
    assert not jobs.wants_embedder
    jobs = job_file(b'{"kind":"embedding","input":"a"}\n')
    jobs.check()
    assert jobs.wants_embedder
    assert models_for(jobs, "default", "judge") == []


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        (b'{"input":"a"}', 'say what is asked for, with "kind": "embedding" or "moderation"'),
        (b'{"kind":"poem","prompt":"a"}', "kind: must be one of generation, evaluation, embedding, moderation"),
        (b'{"kind":7,"prompt":"a"}', "kind: must be one of"),
        (b'{"kind":"embedding","prompt":"a"}', "input: is missing"),
        (b'{"kind":"moderation","input":"a","temperature":1}', "temperature: is no field that is known here"),
        (b'{"prompt":"a","criteria":[{"criterion":"regex","pattern":"("}]}', "criteria.0.pattern: .* no RE2"),
        (
            b'{"prompt":"a","criteria":[{"criterion":"json_schema","json_schema":{"type":"text"}}]}',
            "criteria.0.json_schema: the schema cannot be used: /type: ",
        ),
        (b"nonsense", "no JSON"),
        (b'"text"', "not a string"),
        (b"[1]", "not a list"),
        (b"\xff{}", "no UTF-8"),
        (b'{"prompt":"q","x":1}', "'x': is no field"),
        (b'{"prompt":1}', "prompt: "),
        (b'{"prompt":"q","sampling":7}', "sampling: "),
        (b'{"prompt":"\\ud800"}', "prompt: character 1 .*Cut between"),
        (b'{"prompt":"a\\u0000b"}', "prompt: "),
        (b'{"prompt":"q","sampling":{"temperature":NaN}}', "NaN|JSON|number"),
        (b"[" * 100_000, "no JSON"),
        (b'{"prompt":"q","messages":[{"role":"user","content":"q"}]}', "both prompt and messages"),
    ],
)
def test_a_wrong_line_is_refused_with_its_reason(text: bytes, reason: str):
    """The reason names the field and never raises anything else."""
    with pytest.raises(WrongLine, match=reason):
        parse_job(text, DEFAULTS)


def test_a_job_larger_than_a_record_is_refused_before_it_is_sent():
    """What the broker would refuse is told by line."""
    messages = [{"role": "user", "content": "x" * 190_000}] * 6
    with pytest.raises(WrongLine, match="1,000,000"):
        parse_job(json.dumps({"messages": messages}).encode(), DEFAULTS)


def test_every_wrong_line_is_told_with_its_place():
    """All at once, so that a file is mended in one go."""
    with pytest.raises(WrongLines) as caught:
        job_file(b'{"prompt":"a"}\n\nno\n{"prompt":2}\n').check()
    assert caught.value.count == 2
    assert "jobs.jsonl:3: it is no JSON" in str(caught.value)
    assert "jobs.jsonl:4: prompt: " in str(caught.value)


def test_many_wrong_lines_are_counted():
    with pytest.raises(WrongLines, match="and 980 more"):
        job_file(b"no\n" * 1000).check()


def test_a_line_without_end_is_refused():
    with pytest.raises(WrongLines, match=r"jobs.jsonl:1: it has more than"):
        job_file(b"x" * (MAX_LINE_BYTES + 5)).check()


def test_blank_lines_count_as_lines_and_a_bom_as_nothing():
    entries = job_file(b'\xef\xbb\xbf{"prompt":"a"}\n  \n{"prompt":"b"}').check()
    assert [entry.line for entry in entries] == [1, 3]


@pytest.mark.parametrize("identify", [ByContent(), Once()])
def test_an_entry_reads_back_as_the_same_job(identify):
    jobs = job_file('\ufeff{"prompt":"ä"}\n\n{"prompt":"b"}\r\n'.encode(), identify)
    first, second = jobs.check()
    again = [jobs.read(second), jobs.read(first), jobs.read(second)]
    assert [job.prompt for job, _ in again] == ["b", "ä", "b"]
    assert again[0] == again[2]
    assert again[1][0].job_id(again[1][1]) == first.job_id


def test_a_file_that_changes_meanwhile_is_noticed():
    """Another job would be sent under the receipt's line."""
    stream = BytesIO(b'{"prompt":"a"}\n')
    jobs = JobFile(stream, "jobs.jsonl", DEFAULTS, ByContent())
    [entry] = jobs.check()
    stream.getbuffer()[11:12] = b"z"
    with pytest.raises(WrongLine, match=r"jobs.jsonl:1: the file was changed"):
        jobs.read(entry)


def test_the_same_key_twice_is_one_job():
    jobs = job_file(b'{"prompt":"a","idempotency_key":"k"}\n{"prompt":"a","idempotency_key":"k"}\n')
    assert [entry.line for entry in jobs.check()] == [1]
    assert jobs.repeated == [(2, 1)]


def test_another_job_under_the_key_of_an_earlier_line_is_wrong():
    """Nothing is sent: only one of the two would be answered. Another order of fields or deadline is no other job."""
    others = {
        b'{"idempotency_key":"k","prompt":"b"}': "prompt",
        b'{"idempotency_key":"k","kind":"embedding","input":"a"}': "kind",
    }
    for other, fields in others.items():
        jobs = job_file(b'{"prompt":"a","idempotency_key":"k"}\n' + other + b"\n")
        words = f"jobs.jsonl:2: it has the idempotency_key of line 1 and other content (it differs in {fields})"
        with pytest.raises(WrongLines, match=re.escape(words)):
            jobs.check()
    later = b'{"deadline":"2030-01-01T00:00:00Z","idempotency_key":"k","prompt":"a"}\n'
    jobs = job_file(b'{"prompt":"a","idempotency_key":"k"}\n' + later)
    assert [entry.line for entry in jobs.check()] == [1]


def test_the_models_of_a_file_are_known():
    rubric = {"criterion": "rubric", "question": "Good?", "model": "judge"}
    lines = [{"prompt": "a"}, {"prompt": "a", "model": "big", "criteria": [rubric]}, {"prompt": "b", "model": "big"}]
    jobs = job_file("\n".join(json.dumps(line) for line in lines).encode())
    jobs.check()
    assert jobs.models == {"tiny": 1, "big": 2, "judge": 2}


def test_a_line_is_known_again_by_its_content_and_number():
    def ids(text: bytes, name: str = "") -> list[str]:
        return [entry.job_id for entry in job_file(text, ByContent(name)).check()]

    same = ids(b'{"prompt":"a"}\n{"prompt":"a"}')
    assert same == ids(b'{"prompt":"a"}\n{ "prompt" : "a" }\n')
    assert same[0] != same[1]
    assert same[0] != ids(b'{"prompt":"b"}')[0]
    assert same[0] != ids(b'{"prompt":"a"}', "again")[0]


def test_each_call_of_submit_asks_anew():
    text = b'{"prompt":"a"}'
    assert job_file(text, Once()).check()[0].job_id != job_file(text, Once()).check()[0].job_id


@pytest.mark.parametrize(
    "text", [b"\xef\xbb\xbf" + b'{"prompt":"a"}\r\n\r\n{"prompt":"b"}\r\n', b'{"prompt":"a"}\n{"prompt":"b"}']
)
def test_files_of_other_systems_are_files_too(text: bytes):
    file = job_file(text)
    entries = file.check()
    assert [file.read(entry)[0].prompt for entry in entries] == ["a", "b"]


def test_a_file_of_openai_s_batch_api_gets_a_hint():
    line = b'{"custom_id":"1","method":"POST","url":"/v1/chat/completions","body":{"model":"m","messages":[]}}\n'
    with pytest.raises(WrongLines) as caught:
        job_file(line * 3).check()
    message = str(caught.value)
    assert "jobs.jsonl:1: it is a line for OpenAI's Batch API" in message
    assert message.count("`headrace batch submit FILE` runs") == 1


RUBRIC = '{"input":"q","output":"a","criteria":[{"criterion":"rubric","question":"Is it kind?"}]}'


@pytest.mark.parametrize(
    ("lines", "judge", "models"),
    [
        ('{"input":"q","output":"a","criteria":[{"criterion":"json_valid"}]}', None, []),
        (RUBRIC, None, ["tiny"]),
        (RUBRIC, "wise", ["wise"]),
        ('{"prompt":"q","model":"big"}', "wise", ["big"]),
        ('{"prompt":"q","model":"big"}\n' + RUBRIC, None, ["big"]),
        ('{"prompt":"q","model":"big"}\n' + RUBRIC, "wise", ["big", "wise"]),
    ],
)
def test_a_run_serves_the_models_that_its_jobs_need(lines: str, judge: str | None, models: list[str]):
    file = job_file(lines.encode())
    file.check()
    assert models_for(file, "tiny", judge) == models


def test_a_line_is_checked_by_the_admission_checks_of_features():
    """A job that admission would refuse whatever the deployment is refused before it is sent."""
    with pytest.raises(WrongLine, match="no moderator is called 'other'"):
        parse_job(b'{"kind":"moderation","input":"i","model":"other"}', DEFAULTS)
