import pytest

from headrace_workers.features.knowledge.chunking import Chunk
from headrace_workers.features.knowledge.retrieval_quality import (
    Answered,
    LabelledQuestion,
    belongs,
    floors,
    key_of,
    missed,
    place,
    qualities,
)


def answered(
    rankings: dict[str, list[str]], right: set[str], good: tuple[float, ...] = (), bad: tuple[float, ...] = ()
) -> Answered:
    return Answered(LabelledQuestion(1, "q", frozenset(right)), rankings, good, bad)


@pytest.mark.parametrize(
    ("wanted", "whether"),
    [
        ("a.md", True), ("a.md#Install", True), ("a.md#install", True), ("a.md#Guide > Install", True),
        ("a.md#Guide", True), ("a.md#Linux", True), ("a.md#Instal", False), ("a.md#Install > Guide", False),
        ("b.md", False), ("b.md#Install", False),
    ],
)  # fmt: skip
def test_a_section_is_named_by_its_path_or_a_part_of_it(wanted: str, whether: bool) -> None:
    assert belongs("a.md", "Guide > Install > Linux", wanted) is whether


def test_a_document_whose_name_has_the_mark_is_found() -> None:
    assert belongs("c#.md", "", "c#.md")
    assert belongs("c#.md", "Types", "c#.md#Types")


def test_a_passage_is_what_it_is_asked_for_as() -> None:
    chunk = Chunk("1", "a.md", "Guide > Install", (0, 1), "x")
    assert key_of(chunk, {"a.md#Install", "b.md"}) == "a.md#Install"
    assert key_of(chunk, {"a.md", "a.md#Install"}) == "a.md#Install"
    assert key_of(chunk, {"b.md"}) == "a.md"
    assert key_of(chunk, {"a.md#Use"}) == "a.md#Guide > Install"


def test_each_leg_has_its_means() -> None:
    found = qualities(
        [answered({"words": ["a"], "fused": ["x", "a"]}, {"a"}), answered({"words": [], "fused": ["b"]}, {"b"})]
    )
    words, fused = found
    assert (words.leg, words.mrr, words.ndcg, words.recall[1], words.recall[10]) == ("words", 0.5, 0.5, 0.5, 0.5)
    assert (fused.mrr, fused.recall[1], fused.recall[2]) == (0.75, 0.5, 1.0)


def test_missed_is_what_is_not_among_the_first_ten() -> None:
    late = answered({"fused": [str(n) for n in range(10)] + ["a"]}, {"a"})
    never, there = answered({"fused": ["x"]}, {"a"}), answered({"fused": ["a"]}, {"a"})
    assert missed([late, never, there], "fused") == [late, never]
    assert [place(item, "fused") for item in (late, never, there)] == [11, None, 1]


def test_a_floor_keeps_what_is_right_and_drops_what_is_wrong() -> None:
    both = [
        answered(
            {"fused": []},
            {"a"},
            (
                0.6,
                0.2,
            ),
            (
                0.1,
                0.5,
            ),
        ),
        answered({"fused": []}, {"a"}, (), (0.3,)),
    ]
    low, high = floors(both, [0.2, 0.6])
    assert (low.kept, low.dropped, low.answered) == (1.0, pytest.approx(1 / 3), 0.5)
    assert (high.kept, high.dropped, high.answered) == (0.5, 1.0, 0.5)
    assert floors([both[1]], [0.2])[0].kept is None
