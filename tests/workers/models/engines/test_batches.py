import logging
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace_schemas import HeadraceError
from headrace_schemas.errors import PromptTooLong, Unavailable
from headrace_workers.models.engines.batches import isolate_failures, plan_batches


def doubling(culprits: set[int], error: Exception) -> Callable[[list[int]], list[int]]:
    """Doubles each number; raises when a culprit is among them."""

    def run(batch: list[int]) -> list[int]:
        if culprits & set(batch):
            raise error
        return [2 * number for number in batch]

    return run


@pytest.mark.parametrize("culprits", [set(), {0}, {6}, {2, 3}, set(range(7))])
def test_only_the_culprits_get_the_error(culprits: set[int]) -> None:
    made = isolate_failures(doubling(culprits, RuntimeError("private words")), list(range(7)))
    for number, one in enumerate(made):
        if number in culprits:
            assert isinstance(one, Unavailable)
            assert ("RuntimeError" in str(one), "private" in str(one)) == (True, False)
        else:
            assert one == 2 * number


def test_an_error_of_ours_is_passed_on_as_it_is() -> None:
    error = PromptTooLong("too long")
    made: list[int | HeadraceError] = isolate_failures(doubling({1}, error), [0, 1])
    assert made == [0, error]


def test_answers_that_cannot_be_told_apart_are_nobodys() -> None:
    made = isolate_failures(lambda batch: [0] * (len(batch) + 1), [1, 2, 3])
    assert all(isinstance(one, Unavailable) for one in made)


def test_what_the_library_said_is_in_the_log_of_this_machine(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        isolate_failures(doubling({1}, RuntimeError("out of memory")), [1])
    assert "out of memory" in caplog.text


@given(
    lengths=st.lists(st.integers(1, 300), max_size=80),
    max_tokens=st.integers(1, 4000),
    max_rows=st.integers(1, 40),
    workers=st.integers(1, 8),
    max_steps=st.none() | st.integers(1, 500),
)
def test_every_prompt_is_in_one_batch_and_no_bound_is_crossed(
    lengths: list[int], max_tokens: int, max_rows: int, workers: int, max_steps: int | None
) -> None:
    batches = plan_batches(lengths, max_tokens=max_tokens, max_rows=max_rows, workers=workers, max_steps=max_steps)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        sizes = [lengths[index] for index in batch]
        assert len(batch) <= max_rows
        assert len(batch) == 1 or len(batch) * max(sizes) <= max_tokens
        assert max_steps is None or len(batch) == 1 or sum(size - min(sizes) + 1 for size in sizes) <= max_steps


def test_neighbours_in_length_go_together_and_the_longest_go_first() -> None:
    assert plan_batches([10, 100, 11, 101], max_tokens=2048, max_rows=2, workers=1) == [[3, 1], [2, 0]]


def test_several_workers_all_get_something() -> None:
    """Work that would fit into one batch is cut, so that no worker idles."""
    assert len(plan_batches([40] * 32, max_tokens=2048, max_rows=32, workers=1)) == 1
    assert [len(batch) for batch in plan_batches([40] * 32, max_tokens=2048, max_rows=32, workers=2)] == [16, 16]


def test_no_prompts_make_no_batches() -> None:
    assert plan_batches([], max_tokens=1, max_rows=1, workers=1) == []


def test_what_just_fits_a_bound_fits() -> None:
    assert plan_batches([10, 10], max_tokens=20, max_rows=2, workers=1) == [[0, 1]]
    assert plan_batches([10, 10], max_tokens=99, max_rows=2, workers=1, max_steps=2) == [[0, 1]]
    assert plan_batches([11, 10], max_tokens=99, max_rows=2, workers=1, max_steps=2) == [[0], [1]]
