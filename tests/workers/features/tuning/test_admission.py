"""Tokens of tuning jobs: reserved by the size of the file, counted by the first stage, charged as they are trained."""

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from tests.workers.core.ledger.budget_deployment import CENT, Deployment, Given, books, budget, costs
from tests.workers.core.ledger.conftest import tables_of
from tests.workers.runtime.bridge.records import accept, record, rules_of

from headrace_schemas import Category, TuningJob
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Dead, Done, Ended
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.pipeline.receipt import receipt
from headrace_workers.features.access.store.quotas import Quotas, WantedQuota
from headrace_workers.files.store.files import NewFile, Piece
from headrace_workers.files.store.stored import StoredFiles

SIZE = 3_000  # bytes, of about a thousand tokens
ROWS = 700  # tokens of all rows that are trained, once for each epoch
SEGMENT = 200
BAD = Dead(Category.INVALID, "line 3: the answer is empty")


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.slow)])
def there(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Deployment]:
    """A deployment whose model `echo` is trained for no price, with a file to train on."""
    for url in tables_of(request, tmp_path):
        deployment = Deployment(Ledger.at(url), Given())
        deployment.rules = replace(rules_of(deployment.ledger), pipeline=deployment.pipeline)
        pieces = (Piece("a/file-1/1", SIZE),)
        file = NewFile(id="file-1", tenant="a", purpose="fine-tune", name="a.jsonl", pieces=pieces, digest="0" * 64)
        deployment.ledger.of(StoredFiles).add(file)
        yield deployment
        deployment.ledger.close()


def new(there: Deployment, key: str = "one", **fields: Any) -> NewJob:
    job = TuningJob(tenant="a", model="echo", training_file="file-1", idempotency_key=key, **{"epochs": 2, **fields})
    accepted = accept(record(job), there.rules)
    assert isinstance(accepted, NewJob), accepted
    return accepted


def taken(there: Deployment) -> str:
    job = new(there)
    assert there.ledger.ingest([job]).new == 1
    return job.id


def quota(there: Deployment, most: int) -> None:
    there.ledger.of(Quotas).put("a", most, "ever")


def tokens(there: Deployment) -> tuple[int, int]:
    """The tokens that are used, and those that are reserved."""
    (found,) = there.ledger.of(Quotas).find(["a"], unit="tokens")
    return found.used, found.reserved


def run(there: Deployment, outcome: Any) -> str:
    """Let a step of training say this; return its stage."""
    stages = []

    def step(started: Any, task: Any) -> Any:
        stages.append(started.stage)
        return outcome(task) if callable(outcome) else outcome

    there.run("tune", step)
    return str(stages[0])


def prepare(there: Deployment, count: int = ROWS) -> None:
    assert run(there, Done(to="train", model="echo", to_train=count)) == "prepare"


def train(there: Deployment, left: int, trained: int = SEGMENT) -> None:
    assert run(there, Done(to="train", model="echo", to_train=left, trained=trained)) == "train"


def finish(there: Deployment, trained: int, whole: int, left: int = 0) -> None:
    """Train the last segment, and publish a model that was trained with so many tokens in all."""
    assert run(there, Done(to_train=left, trained=trained)) == "train"
    usage = {"prompt_tokens": whole, "completion_tokens": 0}
    tuned: Any = {"model": "echo", "aliases": ["ft-echo"], "usage": usage}
    assert run(there, lambda task: Ended(receipt(task).model_validate({**receipt(task).model_dump(), "tuned": tuned})))


@pytest.mark.parametrize(("fields", "epochs"), [({"epochs": 5}, 5), ({"epochs": None}, 3)])
def test_a_run_reserves_the_tokens_of_its_file_once_for_each_epoch(
    there: Deployment, fields: dict[str, Any], epochs: int
) -> None:
    quota(there, 10**6)
    there.ledger.ingest([new(there, **fields)])
    assert tokens(there) == (0, 1 + epochs * SIZE // 3)


def test_a_run_that_a_quota_does_not_hold_is_refused_when_it_is_taken_in(there: Deployment) -> None:
    quota(there, 2 * SIZE // 3)
    ((_, reason),) = there.ledger.ingest([new(there)]).over
    assert reason.startswith("the tenant a may use 2,000 tokens, of which 0 are used and 0 reserved")
    assert tokens(there) == (0, 0)


def test_its_first_stage_counts_the_tokens_that_are_reserved_from_then_on(there: Deployment) -> None:
    quota(there, 10**6)
    taken(there)
    prepare(there, 5_000)
    assert tokens(there) == (0, 5_000)


def test_a_run_with_more_tokens_than_its_file_lets_expect_fails_before_it_trains(there: Deployment) -> None:
    quota(there, 4_000)
    taken(there)
    prepare(there, 5_000)
    assert tokens(there) == (0, 0)
    (letter,) = there.ledger.dead(DeadFilter(), 10)
    assert (letter.category, letter.stage) == ("quota", "train")
    assert "the tenant a may use 4,000 tokens" in letter.reason
    quota(there, 6_000)
    assert there.ledger.replay(DeadFilter()) == (1, 0)
    assert tokens(there) == (0, 5_000)


def test_a_run_whose_rows_are_bad_gives_all_back(there: Deployment) -> None:
    quota(there, 10**6)
    taken(there)
    run(there, BAD)
    assert tokens(there) == (0, 0)


def test_a_replay_reserves_again_what_is_left(there: Deployment) -> None:
    quota(there, 10**6)
    taken(there)
    run(there, BAD)
    there.ledger.replay(DeadFilter())
    assert tokens(there) == (0, 2_001)
    prepare(there)
    train(there, ROWS - SEGMENT)
    run(there, BAD)
    assert tokens(there) == (SEGMENT, 0)
    quota(there, ROWS - 1)
    there.ledger.replay(DeadFilter())
    assert tokens(there) == (SEGMENT, 0)
    (letter,) = there.ledger.dead(DeadFilter(), 10)
    assert "may need more than is left, up to 500" in letter.reason
    quota(there, ROWS)
    there.ledger.replay(DeadFilter())
    assert tokens(there) == (SEGMENT, ROWS - SEGMENT)


def test_a_run_that_is_cancelled_is_charged_for_its_segments(there: Deployment) -> None:
    quota(there, 10**6)
    budget(there.ledger, 5)
    assert there.ledger.of(Quotas).reserve([WantedQuota("another", "a", 1, 5)]) == {}
    budget(there.ledger, 0)  # it is over, and does not stop a run without a price
    job_id = taken(there)
    prepare(there)
    train(there, ROWS - SEGMENT)
    train(there, ROWS - 2 * SEGMENT)
    assert tokens(there) == (0, 1 + ROWS)
    there.ledger.cancel(Cancellation(job_id, "a", "enough"))
    assert tokens(there) == (2 * SEGMENT, 1)
    cost = costs(there.ledger)[job_id]
    assert (cost["unknown"], cost["models"][0]["trained_tokens"]) == (True, 2 * SEGMENT)
    assert books(there.ledger) == (0, 5)


def test_a_quota_that_is_lowered_in_mid_run_ends_it_at_a_checkpoint(there: Deployment) -> None:
    quota(there, 10**6)
    taken(there)
    prepare(there)
    quota(there, ROWS - 1)
    train(there, ROWS - SEGMENT)
    assert tokens(there) == (SEGMENT, 0)
    (letter,) = there.ledger.dead(DeadFilter(), 10)
    assert (letter.category, letter.attempts) == ("quota", 0)


@pytest.mark.parametrize("more", [300, 0])
def test_a_run_that_succeeds_after_a_replay_is_charged_once_for_each_token(there: Deployment, more: int) -> None:
    """It stopped early: `tuned.usage` counts the tokens that were trained before the replay, too."""
    quota(there, 10**6)
    taken(there)
    prepare(there)
    train(there, ROWS - SEGMENT)
    run(there, BAD)
    there.ledger.replay(DeadFilter())
    finish(there, more, SEGMENT + more, left=ROWS - SEGMENT - more)
    assert tokens(there) == (SEGMENT + more, 0)


def test_a_run_that_fails_after_it_trained_reserves_nothing_for_a_replay(there: Deployment) -> None:
    quota(there, 10**6)
    taken(there)
    prepare(there)
    assert run(there, Done(to_train=0, trained=ROWS)) == "train"
    run(there, BAD)
    quota(there, ROWS)
    there.ledger.replay(DeadFilter())
    assert tokens(there) == (ROWS, 0)
    assert there.ledger.active_jobs() == 1


def test_a_run_with_a_price_reserves_money_at_admission(there: Deployment) -> None:
    there.prices.prices["echo"] = CENT
    budget(there.ledger, 2_001 * 20 - 1)
    assert "may spend 0.040019" in there.ledger.ingest([new(there)]).over[0][1]
    budget(there.ledger, 2_001 * 20)
    assert there.ledger.ingest([new(there, "two")]).new == 1
    assert books(there.ledger) == (0, 2_001 * 20)
    prepare(there)
    assert books(there.ledger) == (0, ROWS * 20)
    train(there, ROWS - SEGMENT)
    assert books(there.ledger) == (0, ROWS * 20)


def test_runs_wait_their_turn_by_segments(there: Deployment) -> None:
    """A tenant with a long run would wait behind all others, and others behind it: a step counts one token."""
    (step,) = new(there).steps
    assert step.tokens == 1
