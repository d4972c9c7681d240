"""A batch in which a line's own key is its job's: what is known already is taken over, and nothing runs twice."""

from tests.workers.features.batches.running import DEFAULTS, Running, jobs
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import generation

from headrace_workers.core.job_defaults import Defaults

OWN = Defaults(DEFAULTS.model, DEFAULTS.fields, own_keys=True)


def keyed(numbers, **fields):
    return [
        {**job, "idempotency_key": f"k{n}"}
        for n, job in zip(numbers, jobs(max(numbers), **fields)[min(numbers) - 1 :], strict=False)
    ]


def lines(running: Running, batch_id):
    return sorted(line["line"] for line in running.output(batch_id))


def test_what_another_batch_has_answered_is_taken_over(running):
    """It is in the output of both, and was run once; without own keys it would be another job."""
    first = running.submit(keyed(range(1, 4)), defaults=OWN)
    running.run()
    second = running.submit(keyed(range(1, 5)), defaults=OWN)
    running.run()
    assert (lines(running, first), lines(running, second)) == ([1, 2, 3], [1, 2, 3, 4])
    assert len(running.jobs()) == 4
    running.submit(keyed(range(1, 4)))
    running.run()
    assert len(running.jobs()) == 7


def test_a_line_waits_for_another_batch_that_has_its_job(running):
    first = running.submit(keyed(range(1, 4)), defaults=OWN)
    running.turn()
    second = running.submit(keyed(range(3, 6)), defaults=OWN)
    running.settle()
    assert running.batch(second).taken == 0
    running.run()
    assert (lines(running, first), lines(running, second)) == ([1, 2, 3], [1, 2, 3])
    assert {running.batch(item).state for item in (first, second)} == {"completed"}
    assert len(running.jobs()) == 5


def test_a_job_that_came_by_kafka_is_taken_over(running):
    """Whether it has ended or is under way; one that says something else under the key is told of, and left alone."""
    job = {"prompt": "number 1", "model": "echo", "idempotency_key": "k1", "tenant": "a", "lane": "batch"}
    take_in(running.ledger, [generation(**job)])
    batch_id = running.submit([job, {**job, "prompt": "else"}], defaults=OWN)
    other = running.submit([{**job, "prompt": "else"}], defaults=OWN)
    running.run()
    assert running.batch(other).state == "failed"
    assert running.errors(other) == [(1, "conflict")]
    assert (lines(running, batch_id), running.errors(batch_id)) == ([1], [(2, "duplicate_custom_id")])
    assert len(running.jobs()) == 1
