import pytest

from headrace_workers.features.knowledge.grounding import cited


@pytest.mark.parametrize(
    ("answer", "numbers", "unknown"),
    [
        ("It is so [2].", [2], []),
        ("So[1][3] and again [1].", [1, 3], []),
        ("See [1, 2] or [1; 3].", [1, 2, 3], []),
        ("See [1-3], [2–3].", [1, 2, 3], []),
        ("See 【2】.", [2], []),
        ("See [4] and [0] and [2-5].", [2, 3], [4, 0, 5]),
        ("See [1-999999].", [1], [999999]),
        ("See [3-1].", [3, 1], []),
        ("A [1](https://example.com) link, [a], [], [1a], 1].", [], []),
        ("Code: `row[1]`\n```\nx = y[2]\n```\nend [3]", [3], []),
        ("```\nnever closed [1]", [], []),
        ("", [], []),
    ],
)
def test_numbers_that_are_cited(answer: str, numbers: list[int], unknown: list[int]) -> None:
    found = cited(answer, 3)
    assert (list(found.numbers), list(found.unknown)) == (numbers, unknown)


def test_with_no_passages_every_number_is_unknown() -> None:
    assert cited("[1]", 0).unknown == (1,)
