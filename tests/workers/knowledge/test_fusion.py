import pytest

from headrace_workers.knowledge.fusion import fuse


def test_reciprocal_ranks_are_added() -> None:
    """As the paper has it, with k = 60; what both legs have comes first."""
    fused = fuse({"dense": ["a", "b"], "lexical": ["c", "b"]})
    assert [item.id for item in fused] == ["b", "a", "c"]
    assert fused[0].score == pytest.approx(2 / 62)
    assert fused[0].ranks == {"dense": 2, "lexical": 2}
    assert fused[1].score == pytest.approx(1 / 61)


def test_weights_decide_between_legs() -> None:
    """A leg of weight 0 adds its items and no score."""
    fused = fuse({"dense": ["a"], "lexical": ["b"]}, {"lexical": 2.0, "dense": 0.0})
    assert [(item.id, item.score) for item in fused] == [("b", pytest.approx(2 / 61)), ("a", 0.0)]


def test_an_item_counts_once_a_leg() -> None:
    """Its better place."""
    (item,) = fuse({"dense": ["a", "a"]})
    assert item.score == pytest.approx(1 / 61)


def test_no_legs_no_items() -> None:
    """Nor from legs that found nothing."""
    assert fuse({}) == fuse({"dense": []}) == []


@pytest.mark.parametrize("weights", [{"sparse": 1.0}, {"dense": -1.0}, {"dense": float("nan")}])
def test_weights_that_mean_nothing_are_refused(weights: dict[str, float]) -> None:
    """The error names the leg."""
    with pytest.raises(ValueError, match=r"sparse|dense"):
        fuse({"dense": ["a"]}, weights)
