import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.workers.features.knowledge.counting import count_tokens

from headrace_workers.features.knowledge.chunking import Chunk, chunk
from headrace_workers.features.knowledge.documents import Document, Format

GUIDE = """Before all headings.

# Guide

## Install

Run the installer. Then wait.

```sh
first

second
```

## Use

It is used.
"""


def chunks(text: str, size: int = 250, form: Format = Format.MARKDOWN, name: str = "guide.md") -> list[Chunk]:
    return chunk(Document(name, text, "0" * 64, form), count_tokens, size)


def test_sections_keep_their_headings() -> None:
    found = chunks(GUIDE)
    assert [item.section for item in found] == ["", "Guide > Install", "Guide > Use"]
    assert found[1].text.startswith("# Guide\n\n## Install\n\nRun")
    assert found[1].indexed.startswith("Guide > Install\n# Guide")
    assert found[0].indexed == found[0].text == "Before all headings."


def test_spans_are_offsets_into_the_document() -> None:
    for piece in chunks(GUIDE, size=5):
        assert piece.text == GUIDE[slice(*piece.span)]


def test_a_fenced_block_stays_whole_where_it_fits() -> None:
    text = "word " * 8 + "\n\n```\na b c\n\nd e f\n```\n"
    assert [count_tokens(item.text) for item in chunks(text, size=16)] == [8, 12]
    assert [count_tokens(item.text) for item in chunks(text, size=16, form=Format.PLAIN)] == [14, 6]


def test_a_heading_without_text_is_no_part_of_the_next_section() -> None:
    found = chunks("# A\n# B\ntext\n")
    assert [(item.section, item.text) for item in found] == [("A", "# A"), ("B", "# B\ntext")]


def test_a_long_section_is_cut_evenly_at_paragraphs() -> None:
    text = "\n\n".join(f"Paragraph {n} " + "word " * 8 for n in range(21))
    found = chunks(text, size=100)
    assert all(item.text.startswith("Paragraph") for item in found)
    sizes = [count_tokens(item.text) for item in found]
    assert sizes == [70, 70, 70]


def test_a_long_paragraph_is_cut_at_sentences() -> None:
    for text in ("This is a sentence of some words. " * 20, "これは文です。" * 200):
        found = chunks(text, size=30)
        assert len(found) > 1
        assert all(item.text.endswith((".", "。")) for item in found)


def test_a_chunk_knows_its_page() -> None:
    text = "one two three\n\n\fx\n\n\f\n\nfour five six\n"
    assert [item.section for item in chunks(text, size=4)] == ["page 1", "page 3"]
    assert [item.section for item in chunks("# A\n" + text, size=6)] == ["A > page 1", "A > page 2"]


def test_accents_stay_with_their_letters() -> None:
    found = chunks("e\u0301" * 5_000, size=7)
    assert len(found) > 1
    assert not any(item.text.startswith("\u0301") for item in found)


def test_an_id_follows_the_words_and_not_the_place() -> None:
    install = chunks(GUIDE)[1]
    assert chunks("More.\n\n" + GUIDE)[1].id == install.id
    others = (chunks(GUIDE.replace("wait", "go")), chunks(GUIDE.replace("# Guide", "# Book")), chunks(GUIDE, name="b"))
    assert all(install.id not in {item.id for item in other} for other in others)


def test_ids_are_unique_where_texts_repeat() -> None:
    found = chunks("same words here\n\n" * 8, size=6)
    assert len({item.id for item in found}) == len(found) > 1


@pytest.mark.parametrize("text", ["", " \n\t\n ", "\n" * 1000])
def test_nothing_makes_no_chunk(text: str) -> None:
    assert chunks(text) == []


def test_a_size_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="0 tokens"):
        chunks("x", size=0)


def test_long_words_are_cut_before_they_are_counted() -> None:
    seen: list[int] = []

    def count(text: str) -> int:
        seen.append(len(text))
        return len(text) // 4 + 1

    found = chunk(Document("x", "a" * 1_000_000, "0" * 64, Format.PLAIN), count, 250)
    assert sum(len(item.text) for item in found) == 1_000_000
    assert max(seen) <= 8_000
    assert sum(seen) <= 5_000_000


def test_a_word_cut_into_a_million_parts() -> None:
    assert len(chunks("!" * 3_000, size=1)) == 3_000


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            ["# A", "## B", "word", "Two words. And more!", "```", "", "===", "---", "  ", "x" * 90, "字。" * 9]
        )
        | st.text(max_size=40),
        max_size=30,
    ).map("\n".join),
    st.sampled_from(list(Format)),
    st.integers(1, 30),
)
def test_everything_is_in_exactly_one_chunk(text: str, form: Format, size: int) -> None:
    found = chunks(text, size, form)
    place = 0
    for piece in found:
        start, end = piece.span
        assert place <= start < end
        assert not text[place:start].strip()
        assert piece.text.strip()
        assert count_tokens(piece.text) <= size
        place = end
    assert not text[place:].strip()
    assert found == chunks(text, size, form)
    assert len({item.id for item in found}) == len(found)
