"""Cutting prompts into batches."""

from hypothesis import given
from hypothesis import strategies as st

from headrace_workers.features.generation.engines.batching import plan_batches


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
    """Whatever the lengths: nothing is lost or doubled, and only a prompt alone may be above a bound."""
    batches = plan_batches(lengths, max_tokens=max_tokens, max_rows=max_rows, workers=workers, max_steps=max_steps)
    assert sorted(index for batch in batches for index in batch) == list(range(len(lengths)))
    for batch in batches:
        sizes = [lengths[index] for index in batch]
        assert len(batch) <= max_rows
        assert len(batch) == 1 or len(batch) * max(sizes) <= max_tokens
        assert max_steps is None or len(batch) == 1 or sum(size - min(sizes) + 1 for size in sizes) <= max_steps


def test_neighbours_in_length_go_together_and_the_longest_go_first() -> None:
    """Short prompts do not wait for long ones in their batch."""
    assert plan_batches([10, 100, 11, 101], max_tokens=2048, max_rows=2, workers=1) == [[3, 1], [2, 0]]


def test_several_workers_all_get_something() -> None:
    """Work that would fit into one batch is cut, so that no worker idles."""
    assert len(plan_batches([40] * 32, max_tokens=2048, max_rows=32, workers=1)) == 1
    assert [len(batch) for batch in plan_batches([40] * 32, max_tokens=2048, max_rows=32, workers=2)] == [16, 16]


def test_no_prompts_make_no_batches() -> None:
    """Nothing in, nothing out."""
    assert plan_batches([], max_tokens=1, max_rows=1, workers=1) == []


def test_what_just_fits_a_bound_fits() -> None:
    """The bounds belong to what is allowed."""
    assert plan_batches([10, 10], max_tokens=20, max_rows=2, workers=1) == [[0, 1]]
    assert plan_batches([10, 10], max_tokens=99, max_rows=2, workers=1, max_steps=2) == [[0, 1]]
    assert plan_batches([11, 10], max_tokens=99, max_rows=2, workers=1, max_steps=2) == [[0], [1]]
