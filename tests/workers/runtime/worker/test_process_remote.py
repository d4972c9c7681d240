import json
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select
from tests.services.eventually import eventually
from tests.services.provider import Provider, Reply, echoes, providing
from tests.workers.ledger_jobs import dispatch, take_in
from tests.workers.models.engines.remote_models import catalogue
from tests.workers.runtime.bridge.records import RULES, generation
from tests.workers.worker_process import worker

from headrace_workers.core.admission import AdmissionRules
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.tables import OUTBOX, STEPS
from headrace_workers.models.engines.counting import CountingModels
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.bridge.dispatch import Dispatch
from headrace_workers.runtime.wire.taskqueue import TaskQueue

CALLS = 64


def rules_of(home: Path) -> AdmissionRules:
    return AdmissionRules(CountingModels(home, Registry(home)), Pipeline(), RULES.checks)


def sender_of(ledger: Ledger, tasks: TaskQueue, home: Path) -> Dispatch:
    return dispatch(ledger, tasks, models=Registry(home).served, group_size=8)


def states(ledger: Ledger) -> list[str]:
    return [row.state for row in ledger.read(select(STEPS.c.state).where(STEPS.c.stage == "generate"))]


def answered(ledger: Ledger, sender: Dispatch) -> Callable[[], bool]:
    """A condition: no job waits for its answer any more. Meanwhile work goes out, and waits that are over end."""

    def look() -> bool:
        ledger.reap(99)
        sender.once()
        return all(state == "done" for state in states(ledger))

    return look


def test_one_worker_holds_64_calls_open_in_groups_of_one(
    ledger: Ledger, tasks: TaskQueue, redis_server: Any, tmp_path: Path
) -> None:
    """All 64 calls are open at once in one worker, whose engine computes one thing at a time: a call takes no slot of a
    model. Each is a group of its own, so that none waits for the slowest of others.
    """
    all_open = threading.Barrier(CALLS)

    def answers_when_all_are_there(provider: Provider, reply: Reply) -> None:
        all_open.wait(300)
        echoes(provider, reply)

    with providing(answers_when_all_are_there) as provider:
        catalogue(tmp_path, "openai", provider.url, first_token=300.0, total=600.0)
        take_in(ledger, [generation(model="far", prompt=f"job {n}") for n in range(CALLS)], rules_of(tmp_path))
        sender = sender_of(ledger, tasks, tmp_path)
        with worker(tmp_path, redis_server, "generate", model="far", HEADRACE_LEASE="60"):
            eventually(answered(ledger, sender), 400)
        assert provider.most_open == CALLS
        assert len(provider.heard) == CALLS
    rows = ledger.read(select(OUTBOX.c.value, OUTBOX.c.topic))
    events = [json.loads(row.value) for row in rows if row.topic == "outputs"]
    assert {stage["group_size"] for event in events for stage in event["stages"]} == {1}
    outputs = [event["answer"] for event in events]
    assert sorted(output["text"] for output in outputs) == sorted(f"job {n}" for n in range(CALLS))
    assert {output["provider"] for output in outputs} == {"own"}
    assert {output["returned_model"] for output in outputs} == {"teacher-2026-11-01"}


def test_a_busy_provider_costs_no_attempt_and_is_asked_no_more(
    ledger: Ledger, tasks: TaskQueue, redis_server: Any, tmp_path: Path
) -> None:
    until = [0.0]

    def is_busy(provider: Provider, reply: Reply) -> None:
        until[0] = until[0] or time.monotonic() + 4
        if time.monotonic() < until[0]:
            reply.status(429, retry_after="4")
        else:
            echoes(provider, reply)

    with providing(is_busy) as provider:
        catalogue(tmp_path, "openai", provider.url, open_calls=2)
        take_in(ledger, [generation(model="far", prompt=f"job {n}") for n in range(12)], rules_of(tmp_path))
        sender = sender_of(ledger, tasks, tmp_path)
        with worker(tmp_path, redis_server, "generate", model="far", HEADRACE_MAX_ATTEMPTS="1"):
            eventually(answered(ledger, sender), 200)
        refused = len(provider.heard) - 12
        assert 1 <= refused <= 4  # those that were open at once
    assert {row.attempts for row in ledger.read(select(STEPS.c.attempts).where(STEPS.c.stage == "generate"))} == {1}


def outputs(ledger: Ledger) -> dict[str, str]:
    rows = ledger.read(select(OUTBOX.c.value).where(OUTBOX.c.topic == "outputs"))
    answers = [json.loads(row.value)["answer"] for row in rows]
    return {answer["model"]: answer["text"] for answer in answers}


def test_one_worker_asks_all_providers_and_one_that_hangs_delays_no_other(
    ledger: Ledger, tasks: TaskQueue, redis_server: Any, tmp_path: Path
) -> None:
    """All calls that the slow one may have are open, and more of its jobs wait: those of the other go through."""
    over = threading.Event()

    def hangs(_provider: Provider, _reply: Reply) -> None:
        over.wait(300)

    with providing(hangs) as slow, providing(echoes) as fast:
        catalogue(tmp_path, "openai", slow.url, "slow", open_calls=2, first_token=300.0, total=600.0)
        catalogue(tmp_path, "openai", fast.url, "fast", add=True)
        jobs = [generation(model="slow", prompt=f"slow {n}") for n in range(6)]
        jobs += [generation(model="fast", prompt=f"fast {n}") for n in range(20)]
        take_in(ledger, jobs, rules_of(tmp_path))
        sender = sender_of(ledger, tasks, tmp_path)
        with worker(tmp_path, redis_server, "generate", model=None, HEADRACE_LEASE="120"):
            eventually(lambda: (sender.once(), len(slow.heard) == 2)[1], 200)
            eventually(lambda: (sender.once(), states(ledger).count("done") == 20)[1], 200)
            assert len(slow.heard) == 2
            over.set()


def test_a_worker_of_all_providers_follows_the_catalogue(
    ledger: Ledger, tasks: TaskQueue, redis_server: Any, tmp_path: Path
) -> None:
    with providing(echoes) as first, providing(echoes) as second:
        catalogue(tmp_path, "openai", first.url, "one")
        catalogue(tmp_path, "openai", first.url, "keyless", add=True, api_key="env:HEADRACE_NO_SUCH_KEY")
        rules, before = rules_of(tmp_path), (tmp_path / "models.toml").read_text()
        take_in(ledger, [generation(model="one", prompt="a")], rules)
        with worker(tmp_path, redis_server, "generate", model=None, HEADRACE_NO_SUCH_KEY="") as running:
            eventually(answered(ledger, sender_of(ledger, tasks, tmp_path)), 200)
            eventually(lambda: "keyless" in running.log and "HEADRACE_NO_SUCH_KEY" in running.log, 60)
            (tmp_path / "models.toml").write_text("[models")
            (tmp_path / "models.toml").write_text(before)
            catalogue(tmp_path, "openai", second.url, "two", add=True)
            take_in(ledger, [generation(model="two", prompt="b")], rules_of(tmp_path))
            eventually(answered(ledger, sender_of(ledger, tasks, tmp_path)), 200)
            assert outputs(ledger) == {"one": "a", "two": "b"}
            assert len(second.heard) == 1
            catalogue(tmp_path, "openai", second.url, "one")
            eventually(lambda: running.log.count("calls at a time") == 3, 60)  # `one` again, after `two`
            take_in(ledger, [generation(model="one", prompt="c")], rules_of(tmp_path))
            eventually(answered(ledger, sender_of(ledger, tasks, tmp_path)), 200)
            assert [len(first.heard), len(second.heard)] == [1, 2]
            assert running.running


@pytest.mark.slow
def test_a_worker_that_is_killed_with_open_calls_loses_none(
    ledger: Ledger, tasks: TaskQueue, redis_server: Any, tmp_path: Path
) -> None:
    """64 calls of three providers are open, of which one hangs: the next worker answers those of the others."""
    held, over = threading.Event(), threading.Event()

    def first_holds(provider: Provider, reply: Reply) -> None:
        if not held.is_set():
            held.wait(300)
            return
        echoes(provider, reply)

    def hangs(_provider: Provider, _reply: Reply) -> None:
        over.wait(300)

    with providing(first_holds) as one, providing(first_holds) as two, providing(hangs) as three:
        for number, provider in enumerate((one, two, three)):
            catalogue(
                tmp_path, "openai", provider.url, f"far{number}", add=bool(number), first_token=300.0, total=600.0
            )
        jobs = [generation(model=f"far{n % 3}", prompt=f"job {n}") for n in range(64)]
        take_in(ledger, jobs, rules_of(tmp_path))
        sender = sender_of(ledger, tasks, tmp_path)
        with worker(tmp_path, redis_server, "generate", model=None) as running:
            eventually(lambda: (sender.once(), sum(len(item.heard) for item in (one, two, three)) == 64)[1], 200)
            running.kill()
        held.set()

        def go_on() -> bool:
            ledger.reap(99)
            sender.once()
            return states(ledger).count("done") == 43

        with worker(tmp_path, redis_server, "generate", model=None):
            eventually(go_on, 300)
            over.set()
