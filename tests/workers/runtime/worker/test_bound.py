import pytest
from tests.workers.runtime.worker.starts import output, started

from headrace_workers.core.ledger.completion import StepResult
from headrace_workers.core.ledger.outcome import Done, Retry
from headrace_workers.core.pipeline.stage import Weight, model_of
from headrace_workers.runtime.worker.runs import LIGHT, MODEL, Speed, bound, pace_of, tokens_done


def seconds(run, *, at=None, longest_run=0.0):
    """Its bound where this speed was learnt, or nothing."""
    pace = pace_of(Weight.LIGHT if model_of(run.queue) is None else Weight.MODEL)
    speed = Speed(pace.first_speed)
    if at:
        speed.learn(at * 7_000, 7_000.0)
    return bound(run, pace, speed, longest_run=longest_run)


@pytest.mark.parametrize("queue", ["model.echo", "moderate", "judge"])
def test_the_bound_grows_with_the_tokens(queue):
    few, many = started([100], queue=queue), started([100, 100, 100], queue=queue)
    assert 600 < seconds(few, longest_run=600.0) < seconds(many, longest_run=600.0)
    assert seconds(many, longest_run=600.0) - seconds(many) == 600.0


def test_what_one_answer_writes_takes_longer_than_what_many_write_side_by_side():
    assert seconds(started([4_000])) > seconds(started([1_000] * 4))


@pytest.mark.parametrize("speed", [0.3, 1, 20, 500, 20_000])
@pytest.mark.parametrize("sizes", [[40_000], [16], [500] * 64, [8_000, 16, 16]], ids=["long", "tiny", "full", "mixed"])
def test_eight_times_slower_than_learnt_is_no_hang(speed, sizes):
    run = started(sizes)
    assert seconds(run, at=speed) > 8 * sum(sizes) / speed


@pytest.mark.parametrize("size", [100, 300, 4_096])
def test_what_a_large_model_does_first_is_no_hang(size):
    """At a token in two seconds, of which nothing is known yet; but neither may it take for ever."""
    assert 2 * size < seconds(started([size])) < 86_400


def test_a_slow_machine_is_learnt_at_once():
    speed = Speed(MODEL.first_speed)
    for _ in range(1_000):
        speed.learn(10, 0.001)
    speed.learn(3_600, 3_600.0)
    assert speed.tokens_a_second < 4


def test_a_short_run_that_was_held_up_says_little():
    speed = Speed(LIGHT.first_speed)
    for _ in range(100):
        speed.learn(50_000, 1.0)
    before = speed.tokens_a_second
    speed.learn(1, 5.0)
    assert speed.tokens_a_second > before / 2


def test_what_a_model_counted_is_what_was_done():
    run = started([300, 300, 300])
    first, second, third = (row.job_id for row in run.steps)
    settled = [
        StepResult(first, Done(), event=output(first, read=20, written=3)),
        StepResult(second, Done()),
        StepResult(third, Retry("busy"), delay_ms=1),
    ]
    assert tokens_done(run, settled) == 23 + 300
