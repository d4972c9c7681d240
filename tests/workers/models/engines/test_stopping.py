from dataclasses import dataclass

import pytest

from headrace_schemas.limits import MAX_TEXT
from headrace_workers.models.engines.stopping import Row, Stopper, cut_at_stop, needs_stopper, presentable


@dataclass(frozen=True)
class Step:
    batch_id: int
    token_id: int


def spell(ids: list[int]) -> str:
    return "".join(map(chr, ids))


def written(rows: list[Row], row: int, text: str) -> str:
    """What the row has written when the stopper ends it."""
    stopper = Stopper(rows, spell)
    for at, letter in enumerate(text):
        if stopper(Step(row, ord(letter))):
            return text[: at + 1]
    return text


def test_a_row_ends_at_its_own_limit() -> None:
    rows = [Row(3, ()), Row(5, ())]
    assert written(rows, 0, "abcdefgh") == "abc"
    assert written(rows, 1, "abcdefgh") == "abcde"


@pytest.mark.parametrize("stop", ["d", "cd", "bcd", "abcd"])
def test_a_row_ends_with_the_token_that_completes_a_stop_string(stop: str) -> None:
    assert written([Row(100, ("zzz", stop))], 0, "xxxxxxxxxabcdefgh") == "xxxxxxxxxabcd"


@pytest.mark.parametrize("lost", [1, 2, 3])
def test_a_stop_string_is_seen_though_a_decoder_drops_the_beginning_of_what_it_gets(lost: int) -> None:
    rows = [Row(100, (" stop",))]
    stopper = Stopper(rows, lambda ids: spell(ids[lost:]) if len(ids) < len(rows[0].ids) else spell(ids))
    ended = [stopper(Step(0, ord(letter))) for letter in "a long beginning, then stop"]
    assert ended == [False] * (len(ended) - 1) + [True]


def test_a_row_that_is_given_up_ends_and_gets_no_more() -> None:
    given_up: list[bool] = []
    rows = [Row(100, (), lambda: bool(given_up)), Row(100, ())]
    stopper = Stopper(rows, spell)
    assert not stopper(Step(0, ord("a")))
    given_up.append(True)
    assert stopper(Step(0, ord("b")))
    assert not stopper(Step(1, ord("c")))
    assert [(spell(row.ids), row.is_given_up) for row in rows] == [("a", True), ("c", False)]


def test_a_stopper_is_needed_for_what_may_end_early_and_mixed_limits_only() -> None:
    """Else the engine's own limit does, which is cheaper."""
    assert needs_stopper([Row(5, (), bool), Row(5, ())])
    assert not needs_stopper([Row(5, ()), Row(5, ())])
    assert needs_stopper([Row(5, ()), Row(6, ())])
    assert needs_stopper([Row(5, ("x",))])


@pytest.mark.parametrize(
    ("stops", "expected"),
    [
        ((), ("one two", False)),
        (("two",), ("one ", True)),
        (("two", "ne"), ("o", True)),
        (("three",), ("one two", False)),
    ],
)
def test_text_is_cut_before_the_earliest_stop(stops: tuple[str, ...], expected: tuple[str, bool]) -> None:
    assert cut_at_stop("one two", stops) == expected


def test_no_answer_is_longer_than_a_text_may_be() -> None:
    assert presentable("a" * (MAX_TEXT + 1)) == "a" * MAX_TEXT


def test_a_nul_is_replaced() -> None:
    assert presentable("a\x00b") == "a\ufffdb"
