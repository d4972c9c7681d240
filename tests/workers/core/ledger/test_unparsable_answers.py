"""Jobs whose answers do not have their format, in the ledger: their ends, and what they cost."""

from typing import Any

import pytest
from pydantic_core import from_json
from sqlalchemy import select, update
from tests.workers.core.ledger.budget_deployment import CENT, Deployment, Given, books, budget, costs
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
from tests.workers.runtime.bridge.records import generation

from headrace_schemas import Category, Sampling, Usage
from headrace_schemas.output_format import JsonSchemaFormat
from headrace_workers.core.ledger.leases import Started
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Dead, Outcome, Retry
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS, STEPS
from headrace_workers.features.generation.metrics import unparsable_jobs

pytestmark = pytest.mark.integration  # schemas are compiled in a process of their own

TREE = JsonSchemaFormat(json_schema={"type": "object", "required": ["tall"]})
USAGE = Usage(prompt_tokens=7, completion_tokens=3)
COST = 7 * 10 + 3 * 20
MORE = 50  # tokens


@pytest.fixture
def there(ledger: Ledger) -> Deployment:
    """A deployment with the priced models `echo` and `other`."""
    return Deployment(ledger, Given(echo=CENT, other=CENT))


def unparsable(_started: Started, _task: Task) -> Outcome:
    """Say that the answer does not have its format, which ends the job."""
    return Dead(Category.REROUTABLE, "it is no tree", usage=USAGE, failure="unparsable", place="/tall")


def elsewhere(_started: Started, _task: Task) -> Outcome:
    """Say that the answer does not have its format, and another model is to answer."""
    return Retry("it is no tree", category=Category.REROUTABLE, usage=USAGE, failure="unparsable", place="/tall")


def cut_off(_started: Started, _task: Task) -> Outcome:
    """Say that the answer was cut off, and the next may be longer."""
    return Retry("cut off", usage=USAGE, failure="truncated", more_tokens=MORE, context={"room": 306})


def terminal(ledger: Ledger, job_id: str) -> dict[str, Any]:
    ((event,),) = ledger.read(select(JOBS.c.terminal).where(JOBS.c.id == job_id))
    return dict(from_json(event))


def test_the_end_and_the_dead_letter_tell_the_failure_and_its_place(there: Deployment) -> None:
    there.ledger.ingest([new := there.new(output=TREE)])
    there.run("model.echo", unparsable)
    end = terminal(there.ledger, new.id)
    assert (end["category"], end["failure"], end["place"]) == ("reroutable", "unparsable", "/tall")
    (letter,) = there.ledger.dead(DeadFilter())
    assert (letter.failure, letter.place) == ("unparsable", "/tall")


def test_metrics_count_the_jobs_by_failure(there: Deployment) -> None:
    there.ledger.ingest([there.new(output=TREE), there.new(output=TREE), there.new()])
    there.run("model.echo", lambda _, task: unparsable(_, task) if task.job.output else Dead(Category.PERMANENT, "no"))
    there.to_the_end()
    with there.ledger.engine.connect() as connection:
        (metric,) = unparsable_jobs(connection)
    assert [(sample.labels, sample.value) for sample in metric.samples] == [({"failure": "unparsable"}, 2)]


def test_an_unparsable_answer_costs_the_tokens_that_it_took(there: Deployment) -> None:
    """And not the most that the call could have cost: they are known."""
    budget(there.ledger, 10**9)
    there.ledger.ingest([new := there.new(output=TREE)])
    there.run("model.echo", unparsable)
    assert costs(there.ledger)[new.id]["amount"] == COST
    assert books(there.ledger) == (COST, 0)


def test_the_receipt_of_a_chain_has_the_cost_of_both_models(there: Deployment) -> None:
    budget(there.ledger, 10**9)
    there.ledger.ingest([new := there.new(model=("echo", "other"), output=TREE)])
    there.run("model.echo", elsewhere)
    there.to_the_end()
    assert {model["model"]: model["amount"] for model in costs(there.ledger)[new.id]["models"]} == {
        "echo": COST, "other": COST,
    }  # fmt: skip


def test_a_longer_answer_is_reserved_before_it_is_asked_for(there: Deployment) -> None:
    budget(there.ledger, 10**9)
    there.ledger.ingest([new := there.new(output=TREE)])
    ((tokens,),) = there.ledger.read(select(STEPS.c.tokens))
    there.run("model.echo", cut_off)
    assert books(there.ledger) == (0, COST + new.money + MORE * 20)
    assert there.ledger.read(select(STEPS.c.tokens)) == [(tokens + MORE,)]
    with writing(there.ledger.engine) as tx:
        tx.execute(update(STEPS).values(ready_at=1))
    there.to_the_end()
    assert books(there.ledger) == (2 * COST, 0)


def test_a_longer_answer_beyond_the_budget_ends_the_job_as_truncated(there: Deployment) -> None:
    new = there.new(output=TREE)
    budget(there.ledger, new.money + COST + MORE * 20 - 1)
    there.ledger.ingest([new])
    there.run("model.echo", cut_off)
    (letter,) = there.ledger.dead(DeadFilter())
    assert (letter.category, letter.failure) == (Category.QUOTA, "truncated")
    assert "the next call of a model may cost more than is left" in letter.reason
    assert books(there.ledger) == (COST, 0)


def test_a_job_that_gives_up_tells_its_last_failure(there: Deployment) -> None:
    there.ledger.ingest([there.new(output=TREE)])
    for _ in range(3):
        with writing(there.ledger.engine) as tx:
            tx.execute(update(STEPS).values(ready_at=1))
        there.ledger.reap(3)
        there.run("model.echo", elsewhere)
    (letter,) = there.ledger.dead(DeadFilter())
    assert (letter.failure, letter.place) == ("unparsable", "/tall")
    assert letter.reason.startswith("given up after 3 attempts")


def test_a_job_with_a_format_reserves_the_tokens_of_a_second_answer(there: Deployment) -> None:
    plain = generation(sampling=Sampling(max_tokens=100))
    asking = plain.model_copy(update={"output": TREE})
    assert there.pipeline.most_tokens(plain, 120) == 120
    assert there.pipeline.most_tokens(asking, 120) >= 120 + 20 + 200
