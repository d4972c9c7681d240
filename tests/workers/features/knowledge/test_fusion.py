import pytest

from headrace_workers.features.knowledge.passages import Leg, fuse


def test_the_score_is_the_mean_of_the_legs() -> None:
    fused = fuse({"dense": Leg([("a", 0.9), ("b", 0.5)]), "lexical": Leg([("c", 0.2), ("b", 0.1)])})
    assert [item.id for item in fused] == ["a", "b", "c"]
    assert [item.score for item in fused] == pytest.approx([0.45, 0.3, 0.1])
    assert fused[1].ranks == {"dense": 2, "lexical": 2}


def test_what_a_leg_does_not_name_has_its_rest() -> None:
    cut = fuse({"dense": Leg([("a", 0.6)], rest=0.5), "lexical": Leg([("b", 0.2)])})
    assert [(item.id, item.score) for item in cut] == [("b", pytest.approx(0.35)), ("a", pytest.approx(0.3))]
    assert cut[0].ranks == {"lexical": 1}


def test_weights_decide_between_legs() -> None:
    legs = {"dense": Leg([("a", 0.9)]), "lexical": Leg([("b", 0.4)])}
    assert [(item.id, item.score) for item in fuse(legs, {"dense": 0.0})] == [("b", pytest.approx(0.4)), ("a", 0.0)]
    assert fuse(legs, {"dense": 6.0, "lexical": 2.0})[0].score == pytest.approx(0.675)


def test_an_item_counts_once_a_leg() -> None:
    (item,) = fuse({"dense": Leg([("a", 0.5), ("a", 0.4)])})
    assert (item.score, item.ranks) == (0.5, {"dense": 1})


def test_those_alike_come_in_order_of_id() -> None:
    """So that a search gives the same twice."""
    assert [item.id for item in fuse({"dense": Leg([("b", 0.5), ("a", 0.5)])})] == ["a", "b"]


def test_no_legs_no_items() -> None:
    assert fuse({}) == fuse({"dense": Leg([])}) == []
