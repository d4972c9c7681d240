import pytest

from headrace_workers.features.knowledge.chunking import LONGEST, NO_FRONT_MATTER, behind, read_front_matter


def found(written: str) -> dict:
    return dict(read_front_matter(f"---\n{written}\n---\n# Title\n".encode()).attributes)


def test_texts_numbers_truth_and_days_are_attributes() -> None:
    written = "title: The mill\nyear: 1976\nshare: 0.5\ndraft: false\nday: 2026-01-31\nversion: '3.13'"
    attributes = found(written)
    assert list(attributes.items()) == [
        ("title", "The mill"), ("year", 1976), ("share", 0.5), ("draft", False), ("day", "2026-01-31"),
        ("version", "3.13"),
    ]  # fmt: skip
    assert type(attributes["draft"]) is bool


def test_what_can_be_no_attribute_is_passed_over_by_name() -> None:
    matter = read_front_matter(b"---\ntags: [a, b]\nkept: 1\nauthor: {name: Ann}\nempty:\nnan: .nan\n7: seven\n---\n")
    assert dict(matter.attributes) == {"kept": 1}
    assert matter.passed_over == ("tags", "author", "empty", "nan", "7")
    assert read_front_matter(f"---\nlong: {'x' * 513}\n{'k' * 65}: 1\n---\n".encode()).passed_over == ("long", "k" * 64)


@pytest.mark.parametrize("start", ["\ufeff---\r\nyear: 1\r\n---\r\n", "---\nyear: 1\n---\n\ud7ff"])
def test_marks_and_line_ends_of_editors_do_not_matter(start: str) -> None:
    assert dict(read_front_matter(start.encode()).attributes) == {"year": 1}


@pytest.mark.parametrize("text", ["", "# A\n", "---\n", "---\nno end", "----\na: 1\n---\n", "\n---\na: 1\n---\n"])
def test_there_is_none(text: str) -> None:
    assert read_front_matter(text.encode()) == NO_FRONT_MATTER
    assert behind(text) == 0


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("a: [1", "is no YAML: expected ',' or ']'"),
        ("a: &x 1\nb: *x", "aliases (*) are not taken in line 3"),
        ("a: &x {k: v}\nb: {<<: [*x, *x]}", "aliases (*) are not taken"),
        ("a: !!python/object/apply:os.system [true]", "could not determine a constructor"),
        ("a: 2026-02-30", "cannot be read: day is out of range"),
        ("a: " + "[" * 5_000, "cannot be read"),
        ("a: " + "9" * 5_000, "cannot be read"),
    ],
)
def test_what_cannot_be_read_is_told_and_does_no_harm(written: str, told: str) -> None:
    matter = read_front_matter(f"---\n{written}\n---\ntext\n".encode())
    assert dict(matter.attributes) == {}
    assert told in (matter.trouble or "")


def test_it_ends_within_some_bytes() -> None:
    """No more of a large file is looked at; a character that is cut there does no harm."""
    whole = f"---\na: 1\nb: '{'ü' * (LONGEST // 2)}'\n---\n"
    assert "does not end within" in (read_front_matter(whole.encode()).trouble or "")
    assert read_front_matter(b"---\na: 1\n---\n" + b"\xff" * 100_000).attributes == {"a": 1}
