import pytest

from headrace_workers.features.judging.checks import contains, json_valid, length, regex
from headrace_workers.features.judging.scores import TooDeep, UnusablePattern


def test_contains() -> None:
    """Case counts only when asked for."""
    assert contains("Hello World", "WORLD", ignore_case=True) == 1.0
    assert contains("Hello World", "WORLD", ignore_case=False) == 0.0


def test_regex() -> None:
    assert regex("order 4711 is here", r"\b\d{4}\b") == 1.0
    assert regex("none", r"\d") == 0.0


@pytest.mark.parametrize("pattern", ["(", r"(\pL{1000}){1000}"])
def test_a_pattern_that_re2_refuses(pattern: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(UnusablePattern, match="RE2"):
        regex("text", pattern)
    assert "Error parsing" not in capfd.readouterr().err


@pytest.mark.parametrize(
    ("output", "expected"),
    [
        ('{"a": [1, 2.5e3, null]}', 1.0),
        ("9" * 5000, 1.0),
        ("NaN", 0.0),
        ('{"a": Infinity}', 0.0),
        ('```json\n{"a": 1}\n```', 0.0),
        ("", 0.0),
    ],
)
def test_json_valid(output: str, expected: float) -> None:
    """The whole output must be JSON as RFC 8259 has it, whatever Python would let pass besides."""
    assert json_valid(output) == expected


def test_json_that_is_too_deep_says_so() -> None:
    with pytest.raises(TooDeep):
        json_valid("[" * 200_000 + "]" * 200_000)


@pytest.mark.parametrize(("least", "most", "expected"), [(0, None, 1), (3, 3, 1), (4, None, 0), (0, 2, 0)])
def test_length(least: int, most: int | None, expected: float) -> None:
    """Words are what white space parts; the bounds themselves are within."""
    assert length(" one  two\nthree ", min_words=least, max_words=most) == expected
