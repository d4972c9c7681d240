import pytest

from headrace_workers.features.judging.checks import language
from headrace_workers.features.judging.scores import NotCovered, Unsure


@pytest.mark.parametrize(
    ("wanted", "output"),
    [
        ("en", "The capital of France is Paris."),
        ("de", "Die Hauptstadt von Frankreich ist Paris."),
        ("zh", "你好，我是学生。"),
        ("en", "THE MILL STOOD STILL ALL SUMMER"),
    ],
)
def test_a_text_is_in_its_language_and_in_no_other(wanted: str, output: str) -> None:
    assert language(output, wanted) == 1.0
    assert language(output, "it") == 0.0


@pytest.mark.parametrize("output", ["", "ok", "1234 5678", "Das ist gut. This is good. Cela est bon."])
def test_what_cannot_be_told_is_not_a_zero(output: str) -> None:
    with pytest.raises(Unsure):
        language(output, "en")


def test_a_language_that_is_not_known() -> None:
    with pytest.raises(NotCovered, match=r"the language xx is not known here: it may be .*\bde\b"):
        language("whatever", "xx")


def test_two_hundred_thousand_characters() -> None:
    assert language("The mill stood still all summer. " * 6_000, "en") == 1.0
