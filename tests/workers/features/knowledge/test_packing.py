from headrace_workers.features.knowledge.chunking import Chunk
from headrace_workers.features.knowledge.prompt import Passage, pack


def passage(name: str, relevance: float) -> Passage:
    return Passage(Chunk(name, "guide.md", "", (0, 1), name), relevance)


def cost(each: Passage) -> int:
    return int(each.chunk.text[1:])


def test_the_best_go_in_first() -> None:
    packed = pack([passage("b9", 0.8), passage("c8", 0.9), passage("a5", 0.5), passage("d1", 0.6)], 15, 0.1, cost)
    assert [item.chunk.id for item in packed.passages] == ["b9", "a5", "d1"]
    assert (packed.relevant, packed.tokens) == (4, 15)


def test_nothing_below_the_floor() -> None:
    packed = pack([passage("a1", 0.3), passage("b1", 0.29), passage("c1", float("nan"))], 100, 0.3, cost)
    assert [item.chunk.id for item in packed.passages] == ["a1"]
    assert packed.relevant == 1


def test_nothing_relevant_is_not_the_same_as_no_room() -> None:
    assert pack([passage("a1", 0.1)], 100, 0.3, cost).relevant == 0
    full = pack([passage("a9", 0.9)], 8, 0.3, cost)
    assert (full.passages, full.relevant) == ((), 1)
