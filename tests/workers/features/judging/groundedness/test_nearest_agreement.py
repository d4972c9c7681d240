"""Whether the evidence affirms what a sentence affirms, with cosines that are given."""

import numpy as np

from headrace_workers.features.judging.groundedness.evidence import Evidence, units
from headrace_workers.features.judging.groundedness.polarity import agreeing


def evidence(*texts: str) -> Evidence:
    found = units(texts, ())
    none = np.zeros((len(found.texts), 1), np.float32)
    return Evidence(found, none, none, ((),) * len(found.texts))


RULES = evidence("Torches are allowed in the cellar and banned in the attic. Ropes hang in the barn.")


def sign(claim: str, given: Evidence) -> float:
    return agreeing(claim, np.full(len(given.units.texts), 0.5, np.float32), given)[0]


def test_the_part_with_the_words_of_the_sentence_tells() -> None:
    assert sign("Torches are permitted in the attic.", RULES) < sign("Torches are permitted in the cellar.", RULES)
    assert sign("Torches are not permitted in the attic.", RULES) > 0.2


def test_the_nearest_part_tells_where_words_do_not() -> None:
    two = evidence("The gate is open. The gate is shut.")
    assert agreeing("The gate is not locked.", np.array([0.9, 0.1], np.float32), two) > (0.5, 0.5)
    assert agreeing("The gate is not locked.", np.array([0.1, 0.9], np.float32), two)[0] < 0.0


def test_what_was_named_before_goes_on() -> None:
    both = evidence(
        "The hall was built in May, and is shut on Monday. The shop was built in June, and is open on Monday."
    )
    assert sign("The hall is open on Monday.", both) < sign("The shop is open on Monday.", both) - 0.2


def test_each_part_of_a_sentence_is_looked_for() -> None:
    two = evidence("The pool is open on Monday. The sauna is closed on Monday.")
    assert sign("The pool is open on Monday, but the sauna is not open.", two) > 0.2


def test_a_name_between_commas_says_nothing() -> None:
    apart = evidence("The tower keeper, born in Malm, refused the money at once.")
    row = np.array([0.9 if text.endswith("keeper") else 0.5 for text in apart.units.texts], np.float32)
    assert "The tower keeper" in apart.units.texts
    assert agreeing("The tower keeper accepted the money.", row, apart)[1] < -0.33


def test_nothing_said_or_given_is_no_agreement() -> None:
    assert agreeing("It is so.", np.full(len(RULES.units.texts), 0.5, np.float32), RULES) == (0.0, 0.0)
    assert agreeing("Torches burn.", np.zeros(0, np.float32), evidence()) == (0.0, 0.0)
