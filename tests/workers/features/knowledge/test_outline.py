import pytest

from headrace_workers.features.knowledge.chunking import headings
from headrace_workers.features.knowledge.documents import Format


def found(text: str, form: Format = Format.MARKDOWN) -> list[tuple[int, str]]:
    return [(heading.level, heading.title) for heading in headings(text, form)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# One\ntext\n### Three ###\n", [(1, "One"), (3, "Three")]),
        ("One\n===\ntext\n\nTwo\n---\n", [(1, "One"), (2, "Two")]),
        ("```sh\n# a comment\n```\n# One\n", [(1, "One")]),
        ("~~~\n```\n# a comment\n~~~\n# One\n", [(1, "One")]),
        ("````\n```\n# a comment\n````\n", []),
        ("    # indented code\n#hashtag\n####### seven\n", []),
        ("a | b\n--- | ---\n1 | 2\n\ntext of\nseveral lines\n---\n", []),
        ("| a |\n---\n\n- item\n---\n\n> said\n---\n", []),
        ("---\n# comment\n\ntitle: x\n---\n# One\n", [(1, "One")]),
        ("#\n# C#  \n", [(1, ""), (1, "C")]),
        ("", []),
    ],
)
def test_headings_of_markdown(text: str, expected: list[tuple[int, str]]) -> None:
    assert found(text) == expected


def test_underlined_headings_are_ranked_by_first_use() -> None:
    text = "=====\nGuide\n=====\n\nInstall\n=======\ntext\n\nLinux\n-----\n\nUse\n===\n\n"
    text += "Deep\n~~~~\n\ntoo short a line\n--\n"
    assert found(text, Format.UNDERLINED) == [(1, "Guide"), (2, "Install"), (3, "Linux"), (2, "Use"), (4, "Deep")]


def test_tables_and_comments_are_no_underlined_headings() -> None:
    text = "# a comment\n\n=====  =====\na      b\n=====  =====\n\n-----\n\n"
    assert found(text, Format.UNDERLINED) == []


def test_plain_text_has_none() -> None:
    assert found("# One\n\nTwo\n---\n", Format.PLAIN) == []


def test_a_heading_knows_its_place() -> None:
    text = "x\n\nOne\n===\ny"
    (heading,) = headings(text, Format.MARKDOWN)
    assert text[heading.start : heading.end] == "One\n===\n"
