from pathlib import Path

import pytest

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.moderation.blocklist import BlocklistDetector
from headrace_workers.features.moderation.detector import MAX_DETECTIONS


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
    assert found(BlocklistDetector(["ab", "ab-c"]), "ab-cd") == ["ab"]


def test_reads_a_file_with_comments(tmp_path: Path) -> None:
    file = tmp_path / "list.txt"
    file.write_text("# terms\n\n  falcon  \nre:heron\n", encoding="utf-8")
    assert found(BlocklistDetector.from_files([file]), "falcon heron") == ["falcon", "heron"]


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["good", "re:(bad"], "2: no RE2 regex: missing ): (bad"),
        (["re:a(?=b)"], "1: no RE2 regex: invalid perl operator: (?="),
        (["", "# re:", "re:a*"], "3: the regex matches the empty text, and so every text"),
        (["re:  "], "1: no regex after re:"),
        (["x" * 500, "x" * 501], "2: 501 characters; at most 500 are taken"),
    ],
)
def test_a_bad_line_is_refused(tmp_path: Path, lines: list[str], message: str) -> None:
    file = tmp_path / "list.txt"
    file.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(ConfigurationError) as caught:
        BlocklistDetector.from_files([file])
    assert str(caught.value) == f"blocklist {file}, line {message}"


def test_size_is_bounded(tmp_path: Path) -> None:
    """Too large a file, too many entries and too many regexes are refused; as many as are taken are not."""
    terms, regexes = [f"term{i}" for i in range(9_501)], [f"re:x{i}" for i in range(501)]
    BlocklistDetector(terms[:9_500] + regexes[:500])
    with pytest.raises(ConfigurationError, match=r"^blocklist, line 10002: more than 10000 entries$"):
        BlocklistDetector(["#", *regexes[:500], *terms])
    with pytest.raises(ConfigurationError, match=r"^blocklist, line 502: more than 500 regexes$"):
        BlocklistDetector(["term", *regexes])
    file = tmp_path / "list.txt"
    file.write_text("# " + "x" * 999_990 + "\nfalcon\n")
    assert found(BlocklistDetector.from_files([file]), "a falcon") == ["falcon"]
    file.write_text("# " + "x" * 999_991 + "\nfalcon\n")
    with pytest.raises(ConfigurationError) as caught:
        BlocklistDetector.from_files([file])
    assert str(caught.value) == f"blocklist {file} has 1000001 bytes; at most 1000000 are taken"
    with pytest.raises(ConfigurationError, match=r"^blocklist .*none\.txt cannot be read: .*No such file"):
        BlocklistDetector.from_files([tmp_path / "none.txt"])


def test_long_hostile_text_comes_to_an_end() -> None:
    """A regex that would backtrack for ever elsewhere is linear here, and findings are bounded."""
    detector = BlocklistDetector([r"re:(a+)+$", "a"])
    assert detector.detect(["a" * 200_000 + "!"]) == [[]]
    assert len(detector.detect(["a " * 100_000])[0]) == MAX_DETECTIONS


def test_an_empty_list_finds_nothing() -> None:
    assert BlocklistDetector(["# nothing"]).detect(["text", ""]) == [[], []]


def test_the_longest_of_terms_that_begin_alike_is_redacted() -> None:
    """What a shorter one leaves would tell the rest."""
    ((detection,),) = BlocklistDetector(["falcon", "falcon nest"]).detect(["the falcon nest here"])
    assert (detection.start, detection.end) == (4, 15)


def test_a_regex_that_matches_nothing_between_characters_finds_nothing() -> None:
    assert BlocklistDetector([r"re:\b"]).detect(["a b"]) == [[]]
