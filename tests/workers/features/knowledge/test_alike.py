from hypothesis import given, settings
from hypothesis import strategies as st

from headrace_workers.features.knowledge.passages import _likeness, _shingles, distinct

LONG = " ".join(f"word{n}" for n in range(80))


def test_the_first_of_those_alike_is_kept() -> None:
    assert distinct([LONG, LONG + " more", "another text", LONG.upper() + "!"]) == [0, 2]


def test_a_half_of_it_is_another_text() -> None:
    assert distinct([LONG, LONG[: len(LONG) // 2]]) == [0, 1]


def test_texts_of_few_words() -> None:
    assert distinct(["red", "red", "blue", "", "", "?", "red sky"]) == [0, 2, 3, 5, 6]


@settings(max_examples=200, deadline=None)
@given(
    st.lists(st.lists(st.sampled_from("abc"), max_size=12).map(" ".join), max_size=8),
    st.sampled_from([0.3, 0.5, 0.7, 0.9, 1.0]),
)
def test_no_pair_is_missed(texts: list[str], least: float) -> None:
    sets = [_shingles(text) for text in texts]
    kept: list[int] = []
    for place, shingles in enumerate(sets):
        if all(_likeness(shingles, sets[other]) < least for other in kept):
            kept.append(place)
    assert distinct(texts, least) == kept
    assert distinct(texts, least, most=2) == kept[:2]
