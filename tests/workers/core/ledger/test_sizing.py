from dataclasses import dataclass

import pytest

from headrace_workers.core.ledger.claims import alike, of_one_beginning


@dataclass(frozen=True)
class _Row:
    tokens: int
    rank: int = 0
    due: int = 0
    prefix: int | None = None


def _spread(rows):
    return max(row.tokens for row in rows) - min(row.tokens for row in rows)


def test_groups_of_a_window_are_those_of_all_of_it_in_order_of_size():
    rows = [_Row((number * 37) % 256) for number in range(256)]
    groups = []
    while rows:
        groups.append(alike(rows, 64, 1_000_000))
        rows = [row for row in rows if row not in groups[-1]]
    assert sorted(map(_spread, groups)) == [63, 63, 63, 63]


def test_a_group_that_the_budget_ends_has_whole_batches():
    rows = [_Row(10) for _ in range(100)]
    assert [len(alike(rows, 64, budget)) for budget in (10_000, 639, 479, 319, 159)] == [64, 48, 32, 16, 15]


def test_what_is_left_goes_whole():
    assert len(alike([_Row(10) for _ in range(57)], 64, 570)) == 57


@pytest.mark.parametrize("first", [0, 100, 255, 130])
def test_the_most_urgent_comes_first(first):
    rows = [_Row(first), *(_Row(size) for size in range(256) if size != first)]
    assert alike(rows, 64, 1_000_000)[0] == _Row(first)
    assert len(alike(rows, 64, 1_000_000)) == 64


def test_blocks_are_of_one_urgency():
    rows = [*(_Row(100) for _ in range(20)), *(_Row(100, rank=1) for _ in range(80))]
    assert [row.rank for row in alike(rows, 64, 2_000)] == [0] * 16


@pytest.mark.parametrize("first", [7, None])
def test_steps_that_begin_as_the_first_are_a_group_where_they_make_a_batch(first):
    other = 8 if first else 9
    rows = [_Row(n, prefix=first if n % 2 else other) for n in range(1, 41)]
    assert {row.prefix for row in of_one_beginning(rows)} == {first}
    assert len(of_one_beginning(rows)) == 20
    assert of_one_beginning(rows[:29]) == rows[:29]


def test_no_beginning_goes_before_what_is_more_urgent():
    rows = [*(_Row(n, prefix=7) for n in range(15)), _Row(15), *(_Row(n, rank=1, prefix=7) for n in range(40))]
    assert of_one_beginning(rows) == rows
    rows = [*(_Row(n, prefix=7) for n in range(15)), _Row(15), *(_Row(n, due=1, prefix=7) for n in range(40))]
    assert of_one_beginning(rows) == rows
