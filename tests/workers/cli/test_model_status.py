import json
import random
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.services.redis import RedisServer
from tests.workers.cli.conftest import Call
from tests.workers.ledger_jobs import claim_one, take_in
from tests.workers.models.engines.remote_models import catalogue
from tests.workers.runtime.bridge.records import generation

from headrace_producers.settings import topic_prefix
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import ProviderBusy
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.settle import Conditions, settle, task_of
from headrace_workers.core.redis import RedisNames, redis_client
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import NEVER, STEPS
from headrace_workers.features.generation.commands.drill import in_words, run_drill
from headrace_workers.features.generation.model_health import ModelHealth, MonitoredGenerator
from headrace_workers.features.generation.stage import generate
from headrace_workers.features.generation.store.breakers import Breaker, Breakers
from headrace_workers.features.generation.tables import BREAKERS
from headrace_workers.models.engines.echo import EchoGenerator, make_echo_model
from headrace_workers.models.engines.remote.failures import RemoteFailed
from headrace_workers.models.engines.remote.rates import CallRates, key_of
from headrace_workers.models.registry import list_cards


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / ".headrace"
    for alias in ("echo", "other"):
        make_echo_model(folder, alias)
    return folder


def test_breakers_and_calls_are_shown(call: Call, ledger: Ledger, home: Path):
    """As people and programs read them; a model that never failed is there, too."""
    health = ModelHealth(ledger, "echo", iter([0.0, *range(10, 999, 10)]).__next__)
    health.note([RemoteFailed("it is away")] * 5, 7, probed=False)
    code, out, _ = call("models", "status", "--json")
    echo, other = (json.loads(line) for line in out.splitlines())
    assert code == 0
    assert (echo["model"], echo["breaker"], echo["calls"], echo["failures"]) == ("echo", "open", 5, 5)
    assert 0 < echo["asked_again_in_ms"] <= 10_000
    assert (echo["last_failure"], echo["mean_ms"]) == ("it is away", None)
    assert (other["model"], other["breaker"], other["calls"]) == ("other", "closed", 0)
    shown = call("models", "status")[1]
    assert "open" in shown
    assert "it is away" in shown
    assert "100 %" in shown


def test_a_model_is_resumed(
    call: Call, ledger: Ledger, home: Path, redis_server: RedisServer, monkeypatch: pytest.MonkeyPatch
):
    catalogue(home, "openai", "http://127.0.0.1:1")
    monkeypatch.setenv("HEADRACE_REDIS", redis_server.url)
    (remote,) = [card.remote for card in list_cards(home) if card.remote]
    rates = CallRates(remote, redis_client(redis_server.url), RedisNames(topic_prefix()).calls(key_of(remote)))
    rates.slow_down(3_600.0)
    ModelHealth(ledger, "far").note([ProviderBusy("later", after=3_600.0)], 7, probed=False)
    ids = take_in(ledger, [generation(prompt=f"{n}") for n in range(3)])
    with writing(ledger.engine) as tx:
        waits = {"state": "parked", "queue": "model.far", "ready_at": NEVER}
        tx.execute(update(STEPS).where(STEPS.c.job_id.in_(ids[:2])).values(waits))
    code, _, err = call("models", "resume", "far")
    assert (code, "2 of its jobs wait no longer" in err) == (0, True)
    assert ledger.of(Breakers).all()["far"].breaker == Breaker()
    assert rates.take(1) == 0.0
    ledger.reap(3)
    assert {row.state for row in ledger.read(select(STEPS.c.state))} == {"ready"}
    assert call("models", "resume", "nobody")[0] != 0


def test_an_open_breaker_is_trouble_that_status_names(ledger: Ledger):
    ModelHealth(ledger, "echo").note([RemoteFailed("it is away")] * 5, 7, probed=False)
    (trouble,) = ledger.overview().incidents
    assert (trouble.subject, trouble.reason) == ("model echo", "its breaker is open: it is away")


def test_a_breaker_whose_time_is_over_is_half_open(call: Call, ledger: Ledger):
    ModelHealth(ledger, "echo").note([RemoteFailed("it is away")] * 5, 7, probed=False)
    with writing(ledger.engine) as tx:
        tx.execute(update(BREAKERS).values(open_until=1))
    words = "its breaker is half open, and the next call tries whether it answers again: it is away"
    shown = " ".join(call("status")[1].split())
    assert f"model echo: {words}" in shown
    (trouble,) = json.loads(call("status", "--json")[1])["troubles"]
    assert (trouble["subject"], trouble["reason"]) == ("model echo", words)
    assert [line for line in call("doctor", "--json")[1].splitlines() if "half open" in line] == []


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none"], "no model is called 'none'"),
        (["echo", "--kind", "fire"], "--kind is 'fire'; it may be down, hang, 429"),
        (["echo", "--for", "2h"], "--for is '2h'"),
        (["echo"], "confirm with --yes"),
    ],
)
def test_a_drill_that_is_not_meant_changes_nothing(
    call: Call, ledger: Ledger, home: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
):
    monkeypatch.setattr("sys.stdin.isatty", lambda: False)
    code, _, err = call("bench", "outage", *arguments)
    assert (code, words in err) == (2, True)
    assert ledger.read(select(BREAKERS.c.drill)) == []


def work(ledger: Ledger, model: str) -> Any:
    """Answer the next job of this model as its worker does; what is written of it."""
    claim = claim_one(ledger, f"model.{model}")
    if claim is None:
        return None
    started = ledger.start(claim.id, worker="w", lease_ms=9_000)
    assert started is not None
    conditions = Conditions(Pipeline(), 3, random.Random(1), ran_ms=1.0)
    settled = []
    for row in started.steps:
        task = task_of(row, started.now)
        (outcome,) = generate([task], generator=MonitoredGenerator(EchoGenerator(model), ModelHealth(ledger, model)))  # type: ignore[list-item]
        settled.append(settle(started, row, task, outcome, conditions))
    return ledger.complete(claim.id, settled, ran_ms=1, quantum_ms=1_000)


def test_a_drill_reports_who_answered(ledger: Ledger):
    now = [0.0]

    def sleep(seconds: float) -> None:
        now[0] += seconds
        if now[0] <= 1.0:
            take_in(ledger, [generation(model=("echo", "other")), generation(model="other")])
            work(ledger, "echo")
            work(ledger, "other")

    found = run_drill(ledger, "echo", "down", 2.0, lambda _name: None, sleep=sleep, monotonic=lambda: now[0])
    assert (found["jobs"], found["unfinished"], found["dead"]) == (1, 1, 0)  # nobody moderates here
    assert ledger.of(Breakers).all()["echo"].drill is None
    assert in_words(found)[0].startswith("1 jobs asked for echo")
