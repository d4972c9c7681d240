"""Jobs that ended are exported as spans, once, to a receiver that takes OTLP; nothing waits for it."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.semconv._incubating.attributes import gen_ai_attributes
from opentelemetry.semconv.attributes import error_attributes
from sqlalchemy import update
from tests.workers.core.ledger.conftest import tables_of
from tests.workers.features.batches.running import Running, dead, jobs, with_usage
from tests.workers.features.traces.otlp import OtlpServer, otlp_server, values_of

from headrace_schemas import Answer, Category, JudgeVerdict, Score, Usage
from headrace_schemas.events import Attempt, Cost, ModelCost
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.incidents import Incident, open_incidents
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import reading, writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.traces import store
from headrace_workers.features.traces.duty import OtlpReceiver, TraceDuty
from headrace_workers.features.traces.settings import TraceSettings
from headrace_workers.features.traces.spans import CALL_ATTRIBUTES
from headrace_workers.features.traces.store import Traces
from headrace_workers.runtime.bridge.duty import DutyLease, IncidentReporter, Turn

PARENT = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def ledger(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Ledger]:
    """An empty ledger, on each database."""
    for url in tables_of(request, tmp_path):
        ledger = Ledger.at(url)
        yield ledger
        ledger.close()


@pytest.fixture
def receiver() -> Iterator[OtlpServer]:
    with otlp_server() as server:
        yield server


@pytest.fixture
def running(ledger: Ledger, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Running:
    """Jobs that end when a test says so, of which each can be exported at once."""
    monkeypatch.setattr(store, "SETTLED_MS", -1_000)
    ledger.of(Traces).position()
    return Running(ledger, tmp_path)


def duty(ledger: Ledger, receiver: OtlpServer, bridge: str = "b", **settings: object) -> TraceDuty:
    clock = SystemClock()
    return TraceDuty(
        ledger=ledger,
        receiver=OtlpReceiver(receiver.url),
        settings=TraceSettings(trace_endpoint=receiver.url, **settings),
        lease=DutyLease("traces", ledger=ledger, bridge=bridge, clock=clock, seconds=60),
        incidents=IncidentReporter(ledger, bridge, clock),
    )


def incidents_of(ledger: Ledger) -> list[Incident]:
    with reading(ledger.engine) as connection:
        return open_incidents(connection)


def answered(row: object, **changes: object) -> object:
    """A receipt of a job whose first model failed and whose second answered, with costs and a score."""
    result = with_usage(row)
    usage = Usage(prompt_tokens=30, completion_tokens=12, cached_tokens=4)
    answer = Answer(
        text="yes", finish_reason="stop", model="large", provider="openai", returned_model="large-2026",
        quantization="none", usage=usage, because="small failed",
        attempts=(
            Attempt(model="small", category=Category.TRANSIENT, reason="HTTP 503", ms=20),
            Attempt(model="large", provider="openai", ms=50, usage=usage, cost=1_500),
        ),
    )  # fmt: skip
    cost = Cost(amount=1_500, currency="USD", models=(ModelCost(model="large", calls=1, amount=1_500),))
    judge = JudgeVerdict(scores=(Score(criterion="contains", name="polite", value=0.75),))
    return result.model_copy(update={"answer": answer, "cost": cost, "judge": judge, **changes})


def end(running: Running, make: object = with_usage, count: int = 1, **fields: object) -> str:
    batch = running.submit(jobs(count, **fields))
    running.run(make)
    return batch


def test_a_job_is_a_span_with_one_for_each_stage_and_each_call(running, ledger, receiver):
    batch = end(running, answered)
    with writing(ledger.engine) as connection:
        connection.execute(update(JOBS).values(traceparent=PARENT))
    assert duty(ledger, receiver).once() == (False, None)
    job, stage, first, second = sorted(receiver.spans, key=lambda span: (span.name != "generation job", span.kind))
    assert [span.name for span in (job, stage, first, second)] == [
        "generation job", "generate", "chat small", "chat large"
    ]  # fmt: skip
    assert {span.trace_id.hex() for span in receiver.spans} == {PARENT[3:35]}
    assert job.parent_span_id.hex() == PARENT[36:52]
    assert stage.parent_span_id == job.span_id
    assert first.parent_span_id == second.parent_span_id == stage.span_id
    assert job.start_time_unix_nano <= min(stage.start_time_unix_nano, first.start_time_unix_nano)
    assert first.end_time_unix_nano == second.start_time_unix_nano
    assert second.end_time_unix_nano <= job.end_time_unix_nano
    assert values_of(job)["headrace.correlation.id"] == batch
    assert [link.attributes[0].key for link in job.links] == ["headrace.batch"]
    (score,) = job.events
    assert {attribute.key for attribute in score.attributes} == {
        "gen_ai.evaluation.name",
        "gen_ai.evaluation.score.value",
    }
    assert values_of(first) == {
        "gen_ai.operation.name": "chat", "gen_ai.request.model": "small", "gen_ai.provider.name": "headrace",
        "error.type": "transient",
    }  # fmt: skip
    assert values_of(second) == {
        "gen_ai.operation.name": "chat",
        "gen_ai.request.model": "large",
        "gen_ai.response.model": "large-2026",
        "gen_ai.provider.name": "openai",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 30,
        "gen_ai.usage.output_tokens": 12,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "headrace.quantization": "none",
        "headrace.cost": 0.0015,
        "llm.cost.total": 0.0015,
        "mlflow.llm.cost": '{"total_cost":0.0015}',
    }


def test_a_trace_that_is_exported_again_has_the_same_ids(running, ledger, receiver):
    start = ledger.of(Traces).position()
    end(running, answered, 3)
    duty(ledger, receiver).once()
    first = receiver.by_id()
    assert duty(ledger, receiver).once() == (False, None)
    assert len(receiver.spans) == len(first) == 12
    ledger.of(Traces).move(start)
    duty(ledger, receiver).once()
    assert len(receiver.spans) == 24
    assert receiver.by_id() == first


def test_texts_are_exported_only_where_a_setting_asks(running, ledger, receiver):
    end(running, answered)
    duty(ledger, receiver).once()
    end(running, answered)
    assert not any("messages" in name for span in receiver.spans for name in values_of(span))
    duty(ledger, receiver, trace_content=True).once()
    call = values_of(receiver.spans[-1])
    assert json.loads(call["gen_ai.input.messages"]) == [
        {"role": "user", "parts": [{"type": "text", "content": "number 1"}]}
    ]
    assert json.loads(call["gen_ai.output.messages"])[0]["parts"] == [{"type": "text", "content": "yes"}]


def test_of_jobs_without_an_error_a_share_is_exported_and_of_failures_all(running, ledger, receiver):
    end(running, count=40)
    end(running, dead, count=3)
    for _ in range(3):
        duty(ledger, receiver, trace_share=0.25).once()
    names = [span for span in receiver.spans if span.name == "generation job"]
    failed = [span for span in names if span.status.code == span.status.STATUS_CODE_ERROR]
    assert len(failed) == 3
    assert all("error.type" in values_of(span) for span in failed)
    assert 0 < len(names) - 3 < 30


def test_a_receiver_that_is_away_gets_all_later_and_is_named_in_the_status(running, ledger, receiver):
    end(running, count=2)
    exporter = duty(ledger, receiver)
    receiver.answers += [401]
    rested = []
    turn = Turn(tell=rested.append, tell_all=rested.append, alive=lambda: None, rest=rested.append)
    exporter.take_turn(turn)
    (incident,) = incidents_of(ledger)
    assert "HTTP 401 from HEADRACE_TRACE_ENDPOINT" in incident.reason
    assert receiver.spans == []
    exporter.take_turn(turn)
    assert incidents_of(ledger) == []
    assert len(receiver.spans) == 6
    assert rested == [15.0, 2.0]


def test_spans_that_a_receiver_refuses_are_passed_over(running, ledger, receiver):
    end(running)
    exporter = duty(ledger, receiver)
    receiver.answers += [400]
    assert exporter.once() == (False, None)
    end(running)
    exporter.once()
    assert len(receiver.spans) == 3


def test_one_of_two_bridges_exports(running, ledger, receiver):
    turn = Turn(tell=print, tell_all=print, alive=lambda: None, rest=lambda _seconds: None)
    bridges = [duty(ledger, receiver, name) for name in ("a", "b")]
    end(running, count=2)
    for bridge in bridges:
        bridge.take_turn(turn)
    end(running, count=2)
    for bridge in reversed(bridges):
        bridge.take_turn(turn)
    assert len(receiver.spans) == len(receiver.by_id()) == 12


def test_what_ended_before_the_first_export_has_no_trace(ledger, receiver, tmp_path, monkeypatch):
    running = Running(ledger, tmp_path)
    end(running)
    monkeypatch.setattr(store, "SETTLED_MS", -1_000)
    ledger.of(Traces).position()
    assert duty(ledger, receiver).once() == (False, None)
    assert receiver.spans == []


def test_a_parent_that_is_no_trace_context_is_passed_over(running, ledger, receiver):
    end(running)
    for parent in ("", "00-xyz-1-01", "00-" + "0" * 32 + "-" + "0" * 16 + "-00", "7"):
        with writing(ledger.engine) as connection:
            connection.execute(update(JOBS).values(traceparent=parent, ended_at=JOBS.c.ended_at + 1))
        duty(ledger, receiver).once()
    assert len(receiver.by_id()) == 3
    assert len({span.trace_id for span in receiver.spans}) == 1


def test_names_are_those_of_the_conventions():
    known = {
        value
        for module in (gen_ai_attributes, error_attributes)
        for name, value in vars(module).items()
        if name.isupper()
    }
    others = {name for name in CALL_ATTRIBUTES if name not in known}
    assert others == {"headrace.quantization", "headrace.cost", "llm.cost.total", "mlflow.llm.cost"}
