from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.moderation import blocklist
from headrace_workers.moderation.blocklist import BlocklistDetector
from headrace_workers.moderation.limits import MAX_DETECTIONS


def found(detector: BlocklistDetector, text: str) -> list[str]:
    return [text[d.start : d.end] for d in detector.detect([text])[0]]


@pytest.mark.parametrize(
    ("line", "text", "spans"),
    [
        ("project falcon", "Ask about PROJECT  Falcon, or project\nfalcon.", ["PROJECT  Falcon", "project\nfalcon"]),
        ("cat", "concatenate cat cat, cats and a Cat", ["cat", "cat", "Cat"]),
        ("über", "Über uns; darüber nicht", ["Über"]),
        ("c++", "We use C++ and c+++.", ["C++", "c++"]),
        ("#1", "the #1 of all", []),
        ("a.b", "a.b but not axb", ["a.b"]),
        ("😀", "so 😀😀", ["😀", "😀"]),
        (r"re:falcon-\d+", "Falcon-12 and xfalcon-3", ["Falcon-12", "falcon-3"]),
        ("re:^top secret$", "top secret", ["top secret"]),
    ],
)
def test_matches(line: str, text: str, spans: list[str]) -> None:
    """Terms match whole words in any case; regexes match wherever they do."""
    assert found(BlocklistDetector([line]), text) == spans


def test_a_shorter_term_is_found_where_a_longer_one_fails() -> None:
    """A list with `ab` and `ab-c` finds `ab` in `ab-cd`."""
    assert found(BlocklistDetector(["ab", "ab-c"]), "ab-cd") == ["ab"]


def test_offsets_count_characters() -> None:
    """Offsets are characters, not bytes."""
    detections = BlocklistDetector(["falcon"]).detect(["😀é falcon 😀 falcon"])[0]
    assert [(d.start, d.end) for d in detections] == [(3, 9), (12, 18)]


def test_reads_a_file_with_comments(tmp_path: Path) -> None:
    """Comments and empty lines are passed over."""
    file = tmp_path / "list.txt"
    file.write_text("# terms\n\n  falcon  \nre:heron\n", encoding="utf-8")
    assert found(BlocklistDetector.from_file(file), "falcon heron") == ["falcon", "heron"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["good", "re:(bad"], "list.txt, line 2: no RE2 regex: missing"),
        (["re:a(?=b)"], "line 1: no RE2 regex"),
        (["re:a*"], "line 1: the regex matches the empty text"),
        (["re:"], "line 1: no regex after re:"),
        (["x" * 501], "line 1: 501 characters; at most 500"),
    ],
)
def test_a_bad_line_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    """The error names file, line and reason."""
    file = tmp_path / "list.txt"
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        BlocklistDetector.from_file(file)
    assert message in str(caught.value)
    assert str(file) in str(caught.value)


def test_size_is_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Too large a file, too many entries and too many regexes are refused."""
    with pytest.raises(ConfigurationError, match="more than 10000 entries"):
        BlocklistDetector(f"term{i}" for i in range(20_000))
    with pytest.raises(ConfigurationError, match="more than 500 regexes"):
        BlocklistDetector(f"re:term{i}" for i in range(600))
    monkeypatch.setattr(blocklist, "MAX_FILE_BYTES", 3)
    file = tmp_path / "list.txt"
    file.write_text("falcon")
    with pytest.raises(ConfigurationError, match="has 6 bytes"):
        BlocklistDetector.from_file(file)
    with pytest.raises(ConfigurationError, match="cannot be read"):
        BlocklistDetector.from_file(tmp_path / "none.txt")


def test_a_full_list_works() -> None:
    """As many terms as are taken still match."""
    detector = BlocklistDetector(f"forbidden term number {i}" for i in range(10_000))
    assert found(detector, "a forbidden term number 9876 here") == ["forbidden term number 9876"]


def test_long_hostile_text_comes_to_an_end() -> None:
    """A regex that would backtrack for ever elsewhere is linear here, and findings are bounded."""
    detector = BlocklistDetector([r"re:(a+)+$", "a"])
    assert detector.detect(["a" * 200_000 + "!"]) == [[]]
    assert len(detector.detect(["a " * 100_000])[0]) == MAX_DETECTIONS


def test_an_empty_list_finds_nothing() -> None:
    """A file of comments is a valid list."""
    assert BlocklistDetector(["# nothing"]).detect(["text", ""]) == [[], []]


def test_the_longest_of_terms_that_begin_alike_is_redacted() -> None:
    """What a shorter one leaves would tell the rest."""
    ((found,),) = BlocklistDetector(["falcon", "falcon nest"]).detect(["the falcon nest here"])
    assert (found.start, found.end) == (4, 15)


def test_a_regex_that_matches_nothing_between_characters_finds_nothing() -> None:
    """There is nothing to hide."""
    assert BlocklistDetector([r"re:\b"]).detect(["a b"]) == [[]]
