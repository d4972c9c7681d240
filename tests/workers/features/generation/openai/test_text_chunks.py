from hypothesis import given
from hypothesis import strategies as st

from headrace_workers.features.generation.openai.generation import pieces


@given(st.text(alphabet=st.sampled_from("a \n\u00e9\U0001f600"), max_size=300))
def test_all_pieces_together_are_the_text(text):
    """Nothing is lost between them, and none is empty or long."""
    cut = pieces(text)
    assert "".join(cut) == text
    assert all(0 < len(piece) <= 64 for piece in cut)


def test_a_piece_ends_at_a_space_where_there_is_one():
    """So that words come whole."""
    assert pieces("word " * 20)[0].endswith("word ")
    assert pieces("x" * 100) == ["x" * 64, "x" * 36]
    assert pieces("") == []
