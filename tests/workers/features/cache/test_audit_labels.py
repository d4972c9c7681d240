import pytest
from tests.slow import slow_after_first

from headrace_workers.features.cache.audit_labels import SHORT, compare


@pytest.mark.parametrize(
    ("served", "fresh"),
    [
        ("Paris", " Paris\n"),
        ("Paris", "paris."),
        ("The river is the Rhine.", "river is **the Rhine**"),
        ("1,000 km", "1000 km"),
        ("42.0", "42"),
        ("three apples", "3 apples"),
        ("5kg", "5 kg"),
        ("It was on 5 March 2020.", "It was on March 5, 2020"),
        ("It was on 2020-03-05", "It was on 5 Mar 2020"),
        ("It isn't open.", "It is not open"),
        ("I can’t", "I cannot"),
        ("- one\n- two", "one, two"),
        ("x != y", "x != y"),
        ("Ja, das stimmt!", "ja das stimmt"),
        ("", "  "),
    ],
)
def test_answers_that_say_the_same_are_clean(served: str, fresh: str) -> None:
    assert compare(served, fresh).kind == "clean"
    assert compare(fresh, served).kind == "clean"


@pytest.mark.parametrize(
    ("served", "fresh"),
    [
        ("42", "43"),
        ("-5", "5"),
        ("The fee is $5.", "The fee is $6."),
        ("It has 300 people", "It has 299 people"),
        ("At 10:30", "At 10:45"),
        ("It was on 5 March 2020", "It was on March 6, 2020"),
        ("There are two", "There are three"),
        ("Yes", "No."),
        ("It is open", "It isn't open."),
        ("There is no fee", "There is a fee"),
        ("You can return it", "You cannot return it"),
    ],
)
def test_short_answers_that_contradict_each_other_are_wrong(served: str, fresh: str) -> None:
    label = compare(served, fresh)
    assert label.kind == "wrong"
    assert "one " in label.reason
    assert compare(fresh, served).kind == "wrong"


@pytest.mark.parametrize(
    ("served", "fresh"),
    [
        ("Lyon", "Paris"),
        ("vitamin A deficiency", "vitamin deficiency"),
        ("Option A", "Option"),
        ("x != y", "x = y"),
        ("a - b", "a b"),
        ("It works?", "It works."),
        ("iPhone", "IPHONE"),
        ("$5", "€5"),
        ("5 km", "5 miles"),
        (".5", "5"),
        ("1.000", "1000"),  # a thousand to some, one to others
        ("3.14", "3.14159"),
        ("1,300,000 people", "1,297,000 people"),
        ("about 300", "about 299"),
        ("It has 3 rooms", "It has rooms"),
        ("version 1.2.3", "version 1.2.4"),
        ("Yes, it is free", "No, it is free"),  # both may answer "Isn't it free?"
        ("No, it is free", "It is free"),
        ("not only cheap", "only cheap"),
        ("not", ""),
        ("", "!"),
        ("```python\nx = 1\n```", "```python\nx  = 1\n```"),
    ],
)
def test_what_may_be_either_is_unknown(served: str, fresh: str) -> None:
    assert compare(served, fresh).kind == "unknown"
    assert compare(fresh, served).kind == "unknown"


def test_long_answers_are_not_called_wrong() -> None:
    long = "word " * SHORT
    assert compare(f"{long} 5", f"{long} 6").kind == "unknown"
    assert compare(f"{long} 5", f"{long.upper()} 5.").kind == "clean"


@pytest.mark.integration
@pytest.mark.parametrize("unit", slow_after_first(["5 march 2020 ", "5", "1,", "5.5.", "a-", "'", "- ", "n't ", "1:"]))
def test_a_hostile_answer_is_read_to_its_end(unit: str) -> None:
    """100,000 characters of what a careless pattern would try in every way: it would not come back."""
    text = unit * (100_000 // len(unit))
    assert compare(text, f"{text} x").kind == "unknown"
