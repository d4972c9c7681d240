import logging
from datetime import UTC, datetime

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tests.workers.runtime.bridge.records import generation

from headrace_schemas import Category
from headrace_schemas.errors import InvalidRecord, Unavailable
from headrace_workers.core.ledger.outcome import Dead, Retry
from headrace_workers.core.pipeline.stage import run_isolated, unreadable
from headrace_workers.core.pipeline.task import Task


def tasks(count):
    job = generation()
    return [Task(f"{number:036d}", job, job, datetime.now(UTC)) for number in range(count)]


def marked(task):
    return Dead(Category.PERMANENT, task.job_id)


def raising_on(culprits, error):
    """A step that raises when one of these is in its group."""

    def step(group):
        if any(int(task.job_id) in culprits for task in group):
            raise error
        return [marked(task) for task in group]

    return step


@given(st.integers(0, 40), st.sets(st.integers(0, 39), max_size=5))
def test_only_the_culprits_get_the_error(count, culprits):
    group = tasks(count)
    outcomes = run_isolated(raising_on(culprits, InvalidRecord("too long")), group)
    assert outcomes == [
        Dead(Category.INVALID, "too long") if int(task.job_id) in culprits else marked(task) for task in group
    ]


def test_a_retryable_error_is_a_retry():
    assert run_isolated(raising_on({0}, Unavailable("away")), tasks(1)) == [Retry("away")]


def test_a_retryable_error_of_a_group_retries_the_group():
    """It names no culprit: to look for one would call what is away once more for each task."""
    calls = []

    def away(group):
        calls.append(len(group))
        raise Unavailable("away")

    assert run_isolated(away, tasks(64)) == [Retry("away")] * 64
    assert calls == [64]


def test_an_unknown_error_is_tried_again_and_tells_no_text(caplog):
    with caplog.at_level(logging.WARNING):
        first, second = run_isolated(raising_on({1}, KeyError("a private word")), tasks(2))
    assert first == marked(tasks(1)[0])
    assert isinstance(second, Retry)
    assert ("KeyError" in second.reason, "private" in second.reason) == (True, False)
    assert "a step failed" in caplog.text


@pytest.mark.parametrize("answer", [[], [Dead(Category.PERMANENT, "x")] * 3], ids=["none", "too many"])
def test_a_step_that_miscounts_answers_nobody(answer):
    outcomes = run_isolated(lambda _group: answer, tasks(2))
    assert all(isinstance(outcome, Retry) for outcome in outcomes)
    assert len(outcomes) == 2


def test_a_stop_passes_through():
    with pytest.raises(SystemExit):
        run_isolated(raising_on({0}, SystemExit()), tasks(1))


def test_an_unreadable_record_is_final():
    """Trying again would read the same bytes."""
    assert unreadable(ValueError("odd")).category is Category.PERMANENT
