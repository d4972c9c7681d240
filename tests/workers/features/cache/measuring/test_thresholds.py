"""What is served at which threshold, on vectors that are chosen."""

import numpy as np
import pytest

from headrace_workers.features.cache.guards.guard_protocol import Refusal
from headrace_workers.features.cache.measuring.pairs import Judged, Pair, clusters, judge
from headrace_workers.features.cache.measuring.thresholds import Refused, lowest_shown, refusals, swept

ODD = Refusal("odd", "one is odd")


def pair(number: int, same: bool) -> Pair:
    """A pair that shares no question with others."""
    return Pair(number, f"q{number}", f"o{number}", same)


def judged(*each: tuple[float, bool, Refusal | None]) -> list[Judged]:
    """Pairs with these cosines."""
    return [Judged(pair(number, same), cosine, why) for number, (cosine, same, why) in enumerate(each)]


MIXED = judged((0.95, True, None), (0.95, False, None), (0.95, False, ODD), (0.95, True, ODD), (0.75, True, None))


def test_a_pair_has_its_cosine_and_its_guard() -> None:
    """Each text is embedded once, whichever side it is on; the question comes first to the guards."""
    said: list[list[str]] = []
    table = {"a": [1.0, 0.0], "b": [0.6, 0.8], "c": [1.0, 0.0]}

    def embed(texts: list[str]) -> np.ndarray:
        said.append(texts)
        return np.array([table[text] for text in texts], np.float32)

    told: list[int] = []
    found = judge(
        [Pair(1, "a", "b", True), Pair(2, "b", "a", False), Pair(3, "c", "a", True)],
        embed,
        lambda asked, known: ODD if (asked, known) == ("a", "b") else None,
        told.append,
    )
    assert (said, sum(told)) == ([["a", "b", "c"]], 3)
    assert [each.similarity for each in found] == pytest.approx([0.6, 0.6, 1.0])
    assert [each.refusal for each in found] == [ODD, None, None]


def test_served_is_what_is_near_and_not_refused() -> None:
    """By the cosine alone, and with the guards."""
    alone, low, guarded, _ = swept(MIXED, [0.9, 0.7])[0], *swept(MIXED, [0.9, 0.7])[1:]
    assert (alone.threshold, alone.guarded, alone.served, alone.wrong, alone.hits) == (0.9, False, 4, 2, 2)
    assert (alone.hit_share, alone.wrong_of_served, alone.wrong_of_all) == (2 / 3, 0.5, 0.4)
    assert (low.served, low.hit_share) == (5, 1.0)
    assert (guarded.guarded, guarded.served, guarded.wrong, guarded.hit_share) == (True, 2, 1, 1 / 3)
    assert alone.of_all_at_most < alone.of_served_at_most <= alone.together


def test_where_nothing_is_served_there_is_no_share() -> None:
    """And no bound below 1."""
    (_, none) = swept(judged((0.5, False, None)), [0.9])
    assert (none.hit_share, none.wrong_of_served, none.of_served_at_most) == (None, None, 1.0)
    with pytest.raises(ValueError, match="no pairs"):
        swept([])


def test_pairs_that_share_a_question_are_one_cluster() -> None:
    """Through others, too: they fail together."""
    found = clusters(
        [Pair(1, "a", "b", True), Pair(2, "c", "d", True), Pair(3, "b", "e", True), Pair(4, "e", "x", True)]
    )
    assert found == [0, 1, 0, 0]
    together = [Judged(Pair(n, "same", f"o{n}", n > 0), 0.95, None) for n in range(99)]
    apart = [Judged(pair(n, n > 0), 0.95, None) for n in range(99)]
    assert swept(together + judged(*[(0.95, True, None)] * 99), [0.9])[0].of_served_at_most >= (
        swept(apart, [0.9])[0].of_served_at_most / 2
    )


@pytest.mark.integration
def test_a_threshold_is_shown_only_where_the_bound_holds_for_all_at_once() -> None:
    """The lowest from the top on; what lies behind a failure is not reached."""
    clean = judged(*[(0.97, True, None)] * 1_000, *[(0.85, False, None)] * 100, *[(0.75, True, None)] * 20_000)
    shown = lowest_shown(swept(clean, [0.7, 0.8, 0.9, 0.95]), 0.01)
    assert shown is not None
    assert (shown.threshold, shown.served) == (0.9, 1_000)
    assert lowest_shown(swept(judged(*[(0.97, True, None)] * 299), [0.7, 0.9]), 0.01) is None


def test_guards_are_counted_by_what_they_refuse() -> None:
    """Of those near enough; rightly and wrongly."""
    assert refusals(MIXED, 0.9) == [Refused("odd", rightly=1, wrongly=1)]
    assert refusals(MIXED, 0.96) == []
