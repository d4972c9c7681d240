"""One bad request, or one bad batch, keeps its neighbours' answers."""

import logging
from collections.abc import Callable

import pytest

from headrace_schemas import HeadraceError
from headrace_schemas.errors import PromptTooLong, Unavailable
from headrace_workers.features.generation.engines.each import each


def doubling(culprits: set[int], error: Exception) -> Callable[[list[int]], list[int]]:
    """Doubles each number; raises when a culprit is among them."""

    def run(batch: list[int]) -> list[int]:
        if culprits & set(batch):
            raise error
        return [2 * number for number in batch]

    return run


@pytest.mark.parametrize("culprits", [set(), {0}, {6}, {2, 3}, set(range(7))])
def test_only_the_culprits_get_the_error(culprits: set[int]) -> None:
    """In the order of the requests."""
    made = each(doubling(culprits, RuntimeError("private words")), list(range(7)))
    for number, one in enumerate(made):
        if number in culprits:
            assert isinstance(one, Unavailable)
            assert ("RuntimeError" in str(one), "private" in str(one)) == (True, False)
        else:
            assert one == 2 * number


def test_an_error_of_ours_is_passed_on_as_it_is() -> None:
    """Its category and its words were chosen."""
    error = PromptTooLong("too long")
    made: list[int | HeadraceError] = each(doubling({1}, error), [0, 1])
    assert made == [0, error]


def test_answers_that_cannot_be_told_apart_are_nobodys() -> None:
    """A library that miscounts gives no answer to the wrong request."""
    made = each(lambda batch: [0] * (len(batch) + 1), [1, 2, 3])
    assert all(isinstance(one, Unavailable) for one in made)


def test_what_the_library_said_is_in_the_log_of_this_machine(caplog: pytest.LogCaptureFixture) -> None:
    """Someone must find out."""
    with caplog.at_level(logging.ERROR):
        each(doubling({1}, RuntimeError("out of memory")), [1])
    assert "out of memory" in caplog.text
