"""Earlier decisions: given again to the very same request, and never where they must not be."""

from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import select, update
from tests.workers.core.ledger.budget_deployment import CENT, Given
from tests.workers.core.ledger.test_work import settings
from tests.workers.features.decisions.test_stage import Decider, decided, end_of, quotas
from tests.workers.ledger_jobs import claim_one, sqlite_ledger, take_in
from tests.workers.runtime.bridge.records import RULES, decision

from headrace_schemas import DecisionJob, HeadraceError, Message, Predicate
from headrace_schemas.recall import CacheMode, CacheTier, Recall
from headrace_workers.core.admission import AdmissionRules
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.sql.database import writing
from headrace_workers.features.access.store.quotas import Quotas
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.tables import ENTRIES, SERVES
from headrace_workers.features.decisions import prompts, temperatures
from headrace_workers.features.decisions.deciding import Decided, uncalibrated
from headrace_workers.features.decisions.earlier import EarlierDecisions, earlier_decisions
from headrace_workers.features.decisions.stage import decide
from headrace_workers.features.decisions.temperatures import digest_of
from headrace_workers.features.generation.store.model_generations import ModelGenerations
from headrace_workers.models.engines.echo import EchoGenerator, make_echo_model
from headrace_workers.models.generator import Abstained
from headrace_workers.models.registry import Registry
from headrace_workers.runtime.worker.work import Work

PIPELINE = Pipeline(prices=Given(echo=CENT, other=CENT))


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with sqlite_ledger(tmp_path) as found:
        yield found


def asks(**fields: Any) -> DecisionJob:
    return decision(**{"cache": "exact", **fields})


class Deciding:
    def __init__(self, ledger: Ledger) -> None:
        self.ledger = ledger
        self.version = "echo/1"
        self.mode = CacheMode.OFF
        self.ttl = 3_600.0
        self.fitted: Mapping[str, float] = {}
        self.asked = 0  # jobs that a model was asked about
        self.number_format = "int8"

    def run(self, *answers: Decided | HeadraceError, model: str = "echo") -> None:
        generator = Decider(*answers, alias=model)
        generator.quantization = self.number_format
        earlier = EarlierDecisions(self.ledger.of(Answers), lambda: f"{model}/{self.version}", self.mode, self.ttl)
        step: Any = partial(decide, generator=generator, earlier=earlier, temperatures=lambda tenant, _: self.fitted)  # type: ignore[arg-type]
        claim = claim_one(self.ledger, f"model.{model}")
        assert claim is not None
        started = self.ledger.start(claim.id, worker="w", lease_ms=60_000)
        assert started is not None
        work = Work(PIPELINE, {(started.queue, "decide"): step}, settings(), SystemClock())
        assert self.ledger.complete(started.claim_id, work.do(started), ran_ms=1, quantum_ms=5_000) is not None
        self.asked += len(generator.requests)

    def tier(self, *jobs: DecisionJob, answer: Decided | None = None) -> CacheTier | None:
        """Run one more job; return where its decisions came from, None where it was not looked up."""
        (job_id,) = take_in(self.ledger, list(jobs), AdmissionRules(RULES.models, PIPELINE, RULES.checks))
        self.run(*([answer] if answer else []))
        recall = self.recall(job_id)
        return None if recall is None else recall.tier

    def recall(self, job_id: str) -> Recall | None:
        made = end_of(self.ledger, job_id).decisions
        assert made is not None
        return made.recall

    def states(self) -> list[str]:
        return [row.state for row in self.ledger.read(select(ENTRIES.c.state).order_by(ENTRIES.c.id))]


@pytest.fixture
def deciding(ledger: Ledger) -> Deciding:
    return Deciding(ledger)


def test_the_same_request_is_given_the_earlier_decisions_for_nothing(deciding: Deciding) -> None:
    ledger = deciding.ledger
    ledger.of(Quotas).put("a", 10**9, "ever")
    ledger.of(Quotas).put("a", 10**9, "ever", unit="money")
    rules = AdmissionRules(RULES.models, PIPELINE, RULES.checks)
    named = Predicate(type="predicate", name="late", instructions="Is it late?")
    (first,) = take_in(ledger, [asks(tenant="a")], rules)
    deciding.run()
    spent = {quota.unit: quota.used for quota in quotas(ledger)}
    (second,) = take_in(ledger, [asks(tenant="a", questions=(named,), cache="semantic")], rules)
    deciding.run()
    assert deciding.asked == 1
    one, two = end_of(ledger, first), end_of(ledger, second)
    assert one.decisions is not None
    assert two.decisions is not None
    assert one.decisions.recall == Recall()
    (answer,) = one.decisions.answers
    assert two.decisions.answers == (answer.model_copy(update={"name": "late"}),)
    assert (two.decisions.usage.prompt_tokens, two.decisions.usage.completion_tokens) == (0, 0)
    recall = two.decisions.recall
    assert recall is not None
    assert (recall.tier, recall.first_job, recall.saved_tokens) == (CacheTier.EXACT, first, 10)
    assert two.cost is not None
    assert (two.cost.amount, two.cost.models) == (0, ())
    assert {quota.unit: quota.used for quota in quotas(ledger)} == spent
    assert {quota.reserved for quota in quotas(ledger)} == {0}
    (served,) = ledger.read(select(SERVES))
    assert (served.job_id, served.first_job, served.tier) == (second, first, "exact")
    counts = ledger.of(Answers).counts()
    assert (counts.asked, counts.answered, counts.open) == (2, 1, 0)


@pytest.mark.parametrize("cache", [None, "off"])
def test_a_job_that_does_not_ask_for_the_cache_is_decided_and_not_kept(deciding: Deciding, cache: str | None) -> None:
    assert deciding.tier(asks(idempotency_key="1")) is CacheTier.NONE
    assert deciding.tier(asks(cache=cache, idempotency_key="2")) is None
    assert deciding.tier(decision(input="another")) is None
    assert (deciding.asked, deciding.states()) == (3, ["live"])
    deciding.mode = CacheMode.EXACT
    assert deciding.tier(asks(cache=cache, idempotency_key="3")) is (None if cache else CacheTier.EXACT)


@pytest.mark.parametrize(
    "other",
    [
        {"tenant": "other"},
        {"input": "a b d"},
        {"input": None, "messages": (Message(role="system", content="a b c"),)},
        {"input": None, "messages": (Message(role="user", name="jo", content="a b c"),)},
        {"questions": (Predicate(type="predicate", instructions="Is it early?"),)},
        {"questions": decision().questions * 2},
        {"max_age": 1e-9},
    ],
)
def test_another_request_is_another_request(deciding: Deciding, other: dict[str, Any]) -> None:
    assert deciding.tier(asks(idempotency_key="1")) is CacheTier.NONE
    with writing(deciding.ledger.engine) as tx:
        tx.execute(update(ENTRIES).values(made_at=ENTRIES.c.made_at - 10))
    assert deciding.tier(asks(**other, idempotency_key="2")) is CacheTier.NONE
    assert deciding.asked == 2


@pytest.mark.parametrize("change", ["model", "number format", "prompt", "temperature"])
def test_another_model_prompt_or_calibration_voids_what_was_decided(
    deciding: Deciding, change: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    deciding.fitted = {digest_of(decision().questions[0]): 1.5}
    assert deciding.tier(asks(idempotency_key="1")) is CacheTier.NONE
    match change:
        case "model":
            deciding.version = "echo/2"
        case "number format":
            deciding.number_format = "float32"
        case "prompt":
            monkeypatch.setattr(temperatures, "VERSION", prompts.VERSION + 1)
        case _:
            deciding.fitted = {digest_of(decision().questions[0]): 1.6}
    assert deciding.tier(asks(idempotency_key="2")) is CacheTier.NONE
    assert deciding.tier(asks(idempotency_key="3")) is CacheTier.EXACT


def test_decisions_with_a_refusal_are_not_kept(deciding: Deciding) -> None:
    both = asks(questions=decision().questions * 2)
    refused = Decided((*decided().answers, None), 7, 3)
    (job_id,) = take_in(deciding.ledger, [both])
    deciding.run(refused)
    (other,) = take_in(deciding.ledger, [asks()])
    deciding.run(Abstained("it is not sure", prompt_tokens=5))
    assert deciding.states() == []
    assert [deciding.recall(text) for text in (job_id, other)] == [Recall(), Recall()]


def test_a_model_behind_one_that_abstains_is_given_its_own_earlier_decisions(deciding: Deciding) -> None:
    for _ in range(2):
        (job_id,) = take_in(deciding.ledger, [asks(model=("echo", "other"))])
        deciding.run(Abstained("it is not sure", prompt_tokens=5))
        deciding.run(model="other")
    recall = deciding.recall(job_id)
    assert recall is not None
    assert recall.tier is CacheTier.EXACT
    made = end_of(deciding.ledger, job_id).decisions
    assert made is not None
    assert (made.model, made.because) == ("other", "other answered in place of echo (abstained: it is not sure)")
    assert deciding.states() == ["live"]  # nothing is pending for the first model


def test_a_job_with_an_input_that_is_blocked_is_given_nothing() -> None:
    """It never comes to the stage that looks decisions up: the verdict by today's policy comes before."""
    pipeline, job = Pipeline(), asks(screen=True)
    first = pipeline.next_step("6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f11", job, job)
    assert first is not None
    assert first.stage.name == "screen"
    assert [stage.name for stage in pipeline.stages if "earlier" in stage.needs] == ["decide"]


def test_a_worker_keeps_decisions_by_what_it_loaded(ledger: Ledger, tmp_path: Path) -> None:
    make_echo_model(tmp_path)
    registry = Registry(tmp_path)

    def version() -> str:
        return earlier_decisions(ledger, registry, "echo", CacheMode.OFF, 1.0)._version()

    held = earlier_decisions(ledger, registry, "echo", CacheMode.OFF, 1.0)
    before = held._version()
    card = tmp_path / "models" / "echo" / "model.toml"
    card.write_text(card.read_text().replace('quantization = "none"', 'quantization = "int8"'))
    registry._scanned_at = float("-inf")
    registry.aliases()
    assert before == held._version() != version()
    ledger.of(ModelGenerations).saw("echo", "echo-1")
    ledger.of(ModelGenerations).saw("echo", "echo-2")
    assert version().endswith("/1")


def test_a_group_reads_its_temperatures_once(ledger: Ledger) -> None:
    """Else decisions could be kept under another calibration than they were made with."""
    read: list[str] = []

    def changing(tenant: str, number_format: str) -> Mapping[str, float]:
        read.append(tenant)
        return uncalibrated(tenant, number_format)

    deciding = Deciding(ledger)
    take_in(ledger, [asks()])
    claim = claim_one(ledger, "model.echo")
    assert claim is not None
    started = ledger.start(claim.id, worker="w", lease_ms=60_000)
    assert started is not None
    earlier = EarlierDecisions(ledger.of(Answers), lambda: "1", CacheMode.OFF, 9.0)
    step = partial(decide, generator=EchoGenerator(), earlier=earlier, temperatures=changing)
    Work(PIPELINE, {(started.queue, "decide"): step}, settings(), SystemClock()).do(started)
    assert len(read) == 1
    assert deciding.asked == 0
