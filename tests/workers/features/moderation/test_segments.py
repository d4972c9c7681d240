""""""

from hypothesis import given
from hypothesis import strategies as st

from headrace_workers.features.moderation.segments import OVERLAP, SIZE, outermost, windows

TEXTS = st.builds(
    lambda parts: "".join(unit * times for unit, times in parts),
    st.lists(st.tuples(st.sampled_from(["a", " ", "ab ", "x\n", "😀"]), st.integers(1, 3_000)), max_size=6),
)


@given(text=TEXTS)
def test_windows_are_slices_of_bounded_size(text: str) -> None:
    for offset, piece in windows(text):
        assert 0 < len(piece) <= SIZE
        assert text[offset : offset + len(piece)] == piece


@given(text=TEXTS, data=st.data())
def test_every_short_span_is_whole_in_some_window(text: str, data: st.DataObject) -> None:
    if not text:
        return
    start = data.draw(st.integers(0, len(text) - 1))
    end = min(len(text), start + data.draw(st.integers(1, OVERLAP)))
    if " " * 16 not in text[max(0, start - 16) : end + 16]:
        assert any(offset <= start and end <= offset + len(piece) for offset, piece in windows(text))


def test_a_short_text_is_one_window() -> None:
    assert list(windows("a b")) == [(0, "a b")]
    assert list(windows("")) == []


def test_a_long_text_is_cut_behind_the_last_white_space_that_is_near() -> None:
    for back, stop in ((0, SIZE), (1, SIZE - 1), (2, SIZE - 2), (63, SIZE - 63), (64, SIZE), (65, SIZE)):
        text = "x" * (SIZE - back - 1) + " " + "y" * 1_000
        assert next(windows(text)) == (0, text[:stop])
    begins = SIZE - OVERLAP
    text = "x" * (begins - 6) + " " + "y" * 1_000
    assert [offset for offset, _ in windows(text)] == [0, begins - 5]


def test_wide_gaps_separate_windows() -> None:
    assert list(windows("a" + " " * 20 + "b")) == [(0, "a"), (21, "b")]


def test_a_span_inside_another_is_left_out() -> None:
    assert outermost([(5, 9), (0, 4), (1, 3), (0, 4), (3, 7), (5, 6)]) == [(0, 4), (3, 7), (5, 9)]
    assert outermost([]) == []
