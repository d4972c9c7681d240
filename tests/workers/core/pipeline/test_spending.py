import pytest
from tests.workers.runtime.bridge.records import evaluation, generation

from headrace_schemas import Contains, Grounded, MinQuality, Sampling
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.features.moderation.stage import stages

HERON = Contains(text="heron")


def cost(job, *again):
    """Of a job, one answer of which costs 100 tokens, where answers of these tenants are made again."""
    moderating = stages(answered_again=lambda tenant: tenant in again)
    changed = {stage.name: stage for stage in moderating}
    return Pipeline([changed.get(stage.name, stage) for stage in Pipeline().stages]).most_tokens(job, 100)


def floor(then="regenerate", attempts=1, criterion=HERON):
    """A job of tenant `a` that may write 40 tokens, with a floor."""
    wanted = MinQuality(criterion=criterion.criterion, value=0.5, then=then, attempts=attempts)
    return generation(tenant="a", sampling=Sampling(max_tokens=40), criteria=(criterion,), min_quality=wanted)


@pytest.mark.parametrize("then", ["hold", "accept"])
def test_what_is_answered_once_costs_one_answer(then):
    assert {cost(generation(tenant="b"), "a"), cost(evaluation(tenant="a"), "a"), cost(floor(then))} == {100}


def test_each_answer_more_reads_the_one_before_and_what_is_wrong():
    once, more = 100, 100 + 40  # and the objection
    assert [cost(floor(attempts=n)) > once + n * more for n in (1, 2, 3)] == [True] * 3
    assert cost(floor(attempts=2)) - cost(floor()) == cost(floor(attempts=3)) - cost(floor(attempts=2))
    assert cost(generation(tenant="a", sampling=Sampling(max_tokens=40)), "a") > once + 2 * more
    assert cost(floor(), "a") == cost(floor(attempts=3))


def test_what_is_wrong_may_be_long():
    long = Contains(text="heron " * 300)
    assert cost(floor(criterion=long)) >= cost(floor()) + 299
    assert cost(floor(criterion=Grounded())) >= cost(floor()) + 30
