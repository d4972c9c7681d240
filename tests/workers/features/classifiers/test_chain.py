"""A classifier at the front of a chain, through the ledger; and what it learns from the model behind it."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from tests.workers.core.ledger.test_work import settings
from tests.workers.features.classifiers.test_generator import make, question
from tests.workers.features.decisions.test_stage import PIPELINE, Decider, end_of, start
from tests.workers.features.generation.outages.test_breakers import breaker_of, half_open, open_now
from tests.workers.ledger_jobs import sqlite_ledger, take_in
from tests.workers.runtime.bridge.records import decision

from headrace_schemas import DecisionJob, Decisions
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.classifiers.decided import DecidedRows
from headrace_workers.features.decisions.deciding import Decided, QuestionScores
from headrace_workers.features.decisions.stage import decide
from headrace_workers.features.generation.model_health import ModelHealth, monitored
from headrace_workers.features.generation.store.breakers import PATIENCE, Breaker
from headrace_workers.features.reviews.hooks import put_rules
from headrace_workers.features.reviews.rules import ReviewRules, TenantReviews
from headrace_workers.models.engines.load_generator import load_generator
from headrace_workers.runtime.worker.work import Work


@pytest.fixture
def ledger(tmp_path: Path) -> Iterator[Ledger]:
    with sqlite_ledger(tmp_path) as found:
        yield found


def asking(text: str, **fields: Any) -> DecisionJob:
    return decision(**{"input": text, "questions": (question(),), "model": ("echo", "other"), **fields})


def run(ledger: Ledger, generator: Any) -> None:
    started = start(ledger, f"model.{generator.alias}")
    work = Work(PIPELINE, {(started.queue, "decide"): partial(decide, generator=generator)}, settings(), SystemClock())
    assert ledger.complete(started.claim_id, work.do(started), ran_ms=1, quantum_ms=5_000) is not None


def decisions_of(ledger: Ledger, job_id: str) -> Decisions:
    decisions = end_of(ledger, job_id).decisions
    assert decisions is not None
    return decisions


def scores(*probabilities: float) -> Decided:
    return Decided((QuestionScores(probabilities, mass=0.9),), 40, 3)


def test_a_job_that_its_classifier_is_sure_of_goes_no_further(ledger: Ledger, tmp_path: Path) -> None:
    make(tmp_path, "echo")
    (job_id,) = take_in(ledger, [asking("invoice refund charge")])
    run(ledger, monitored(load_generator(tmp_path, "echo"), ModelHealth(ledger, "echo")).urgent)
    decisions = decisions_of(ledger, job_id)
    assert (decisions.model, decisions.answers[0].type, decisions.answers[0].calibrated) == ("echo", "choice", True)
    assert getattr(decisions.answers[0], "choice") == "billing"  # noqa: B009 - one of several kinds of answers


def test_an_abstention_is_neither_an_attempt_nor_a_failure(ledger: Ledger, tmp_path: Path) -> None:
    make(tmp_path, "echo")
    classifier = monitored(load_generator(tmp_path, "echo"), ModelHealth(ledger, "echo"))
    for number in range(PATIENCE + 1):
        take_in(ledger, [asking(f"zebra quartz {number}", model="echo")])
        run(ledger, classifier)
    assert replace(breaker_of(ledger), answered={}) == Breaker()
    (job_id,) = take_in(ledger, [asking("zebra quartz")])
    run(ledger, classifier)
    run(ledger, Decider(scores(0.1, 0.7, 0.2), alias="other"))
    decisions = decisions_of(ledger, job_id)
    assert (decisions.model, decisions.attempts) == ("other", ())
    assert decisions.because is not None
    assert decisions.because.startswith(
        "other answered in place of echo (abstained: the input is outside what the classifier was trained on"
    )
    assert [(record.stage, record.attempt) for record in end_of(ledger, job_id).stages] == [("decide", 1)]


def test_a_chain_that_ends_with_an_abstaining_classifier_answers_with_a_refusal(ledger: Ledger, tmp_path: Path) -> None:
    make(tmp_path, "echo")
    (job_id,) = take_in(ledger, [asking("zebra quartz", model="echo")])
    run(ledger, monitored(load_generator(tmp_path, "echo"), ModelHealth(ledger, "echo")))
    decisions = decisions_of(ledger, job_id)
    assert [(answer.type, answer.name) for answer in decisions.answers] == [("refusal", "kind")]


def test_a_classifier_whose_breaker_is_open_is_not_asked(ledger: Ledger, tmp_path: Path) -> None:
    make(tmp_path, "echo")
    open_now(ledger)
    classifier = monitored(load_generator(tmp_path, "echo"), ModelHealth(ledger, "echo"))
    (job_id,) = take_in(ledger, [asking("invoice refund charge", model="echo")])
    run(ledger, classifier)
    (row,) = [row for row in ledger.read(JOBS.select()) if row.id == job_id]
    assert row.terminal is None


def test_an_abstention_shows_that_a_classifier_works_and_closes_its_breaker(ledger: Ledger, tmp_path: Path) -> None:
    make(tmp_path, "echo")
    open_now(ledger)
    half_open(ledger)
    take_in(ledger, [asking("zebra quartz", model="echo")])
    run(ledger, monitored(load_generator(tmp_path, "echo"), ModelHealth(ledger, "echo")))
    assert replace(breaker_of(ledger), answered={}) == Breaker()


def answered_by_other(ledger: Ledger, *jobs: tuple[str, Decided]) -> None:
    for text, decided in jobs:
        take_in(ledger, [asking(text, model="other", tenant="acme")])
        run(ledger, Decider(decided, alias="other"))


def test_accepted_decisions_of_a_tenant_are_labelled_rows(ledger: Ledger) -> None:
    answered_by_other(
        ledger,
        ("invoice refund", scores(0.8, 0.1, 0.1)),
        ("crash thanks", scores(0.1, 0.5, 0.4)),
        ("no answer", Decided((None,), 40, 3)),
    )
    take_in(ledger, [asking("of another tenant", model="other", tenant="globex")])
    run(ledger, Decider(scores(0.0, 0.0, 1.0), alias="other"))

    def rows(least: float = 0.0, but: frozenset[str] = frozenset(), name: str = "kind") -> list[tuple[str, Any]]:
        return [(row.input, row.label) for row, _ in ledger.of(DecidedRows).of("acme", name, least, but)]

    assert rows() == [("invoice refund", "billing"), ("crash thanks", "broken")]
    assert rows(least=0.6) == [("invoice refund", "billing")]
    assert rows(but=frozenset({"other"})) == []
    assert rows(name="urgency") == []


def test_no_classifier_learns_from_the_jobs_of_a_tenant_that_forbids_training(ledger: Ledger) -> None:
    answered_by_other(ledger, ("invoice refund", scores(0.8, 0.1, 0.1)))
    with writing(ledger.engine) as connection:
        put_rules(connection, ReviewRules(tenants={"acme": TenantReviews(training=False)}))
    with pytest.raises(ConfigurationError, match="training = false of the tenant acme"):
        list(ledger.of(DecidedRows).of("acme", "kind", 0.0, frozenset()))
