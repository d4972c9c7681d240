import pytest

from headrace_workers.features.judging.groundedness.polarity import SIDES, agreement, part


@pytest.mark.parametrize(
    ("said", "there", "sign", "by_words"),
    [
        ("The pool was cleaned.", "They cleaned the pool.", 1, 0),
        ("The pool was not cleaned.", "They cleaned the pool.", -1, 0),
        ("The pool wasn't cleaned.", "They cleaned the pool.", -1, 0),
        ("Nobody has seen the pool.", "The pool was not seen.", 1, 0),
        ("The shop is closed.", "The shop is open.", -1, -1),
        ("The shop is not open.", "The shop is closed.", 1, 1),
        ("The shop is shut.", "The shop is closed.", 1, 0),
        ("You cannot swim there.", "Swimming is prohibited.", 1, 1),
        ("You can swim there.", "Swimming is prohibited.", -1, -1),
        ("The rope is weaker.", "It is a strong rope.", -1, -1),
        ("The rope is not weak.", "It is a strong rope.", 1, 1),
        ("The roof is unprotected.", "The roof is vulnerable.", 1, 0),
        ("Visits are free.", "Visits have to be paid for.", -1, -1),
    ],
)
def test_two_denials_are_none(said: str, there: str, sign: int, by_words: int) -> None:
    for one, other in ((said, there), (there, said)):
        found = agreement(part(one), part(other))
        assert (found.sign, found.by_words) == (sign, by_words)


@pytest.mark.parametrize(
    ("said", "there"),
    [
        ("an unpainted wall", "a painted wall"),
        ("a moonless night", "a night with a moon"),
        ("tea without sugar", "tea with sugar"),
        ("by boat instead of by train", "by train"),
    ],
)
def test_what_denies_one_word_alone(said: str, there: str) -> None:
    assert (agreement(part(said), part(there)).sign, agreement(part(said), part(said)).sign) == (-1, 1)


def test_a_word_that_denies_one_word_does_not_deny_all() -> None:
    read = part("without milk and cold sugar it smells of caramel").words
    assert (read["milk"], read["cold"], read["sugar"], read["caramel"]) == (-1, -1, 1, 1)


@pytest.mark.parametrize("word", ["units", "understood", "universities", "until"])
def test_what_looks_like_a_prefix(word: str) -> None:
    assert -1 not in part(word).words.values()


@pytest.mark.parametrize(
    ("said", "there"),
    [
        ("The tower was not finished until 1902.", "The tower was finished in 1902."),
        ("It sells not only bread.", "It sells bread."),
        ("The lift is out of order.", "The lift does not work."),
        ("He gave up the plan.", "He did not keep the plan."),
    ],
)
def test_phrases(said: str, there: str) -> None:
    """Some look like denials and are none; some deny without a word that does."""
    assert agreement(part(said), part(there)).sign == 1


def test_a_word_that_denies_and_has_no_match_counts_as_a_denial() -> None:
    lost = agreement(part("The captain failed."), part("The captain sailed."))
    assert (lost.sign, lost.by_words) == (-1, 0)
    assert agreement(part("a small room"), part("a room")).sign == 1


def test_a_long_part_is_read_at_its_beginning() -> None:
    """So that a text without an end costs no more than its beginning."""
    words = [one + other for one in "abcdefgh" for other in "klmnpqrstu"]
    assert len(part(" ".join(words)).words) <= 60 < len(words)
    assert not part("a" * 40 + 40 * (" " * 20) + "nobody").denied
    assert part("nobody " + "not until " * 100_000).denied


def test_no_word_stands_on_both_sides_of_a_line() -> None:
    """It would be its own opposite."""
    for sides in SIDES.values():
        assert len({side.line for side in sides}) == len(sides)
