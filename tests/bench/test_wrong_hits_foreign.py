import hashlib

import numpy as np
import pytest
from bench.wrong_hits_foreign import PAIRS, Case, Pair, of_cases, of_pairs, pairs, tier


def test_the_pairs_are_the_file_that_its_page_names() -> None:
    """A changed file would measure something else under the same name."""
    said = PAIRS.with_suffix(".md").read_text(encoding="utf-8")
    assert hashlib.sha256(PAIRS.read_bytes()).hexdigest() in said
    assert (len(pairs()), sum(pair.same for pair in pairs())) == (600, 300)


@pytest.mark.parametrize(
    ("asked", "cosine", "found"),
    [
        ("Hi team, how do I reset my router", 0.1, "normalised"),
        ("What is the best way to reset my router?", 0.9, "semantic"),
        ("What is the best way to reset my router?", 0.7, None),
        ("How do I reset my phone?", 0.99, None),
    ],
)
def test_a_tier_serves_by_form_or_by_likeness_and_guards(asked: str, cosine: float, found: str | None) -> None:
    """The normalised form needs no likeness; a likeness below the threshold and a guard refuse."""
    assert tier("How do I reset my router?", asked, cosine, 0.8) == found


def same(texts: list[str]) -> np.ndarray:
    """One direction for all texts: every cosine is 1."""
    return np.ones((len(texts), 1), np.float32)


def test_the_shares_count_what_was_served_and_what_of_it_was_wrong() -> None:
    right = Pair("near", "Fix a bike", "Repair a bike", same=True)
    missed = Pair("near", "Fix a bike", "Inflate a tyre", same=True)
    trap = Pair("trap", "Fix a bike", "Mend a bike", same=False)
    rows = of_pairs([right, missed, trap], same, 0.8)
    found = {row.metric.split(" (")[0]: row.value for row in rows}
    assert found["foreign: should-hits served, 1 of 2"] == 0.5
    assert found["foreign: wrong among served, 1 of 2"] == 0.5
    assert found["foreign, trap: traps served, 1 of 1"] == 1.0


def test_what_another_case_serves_is_wrong() -> None:
    cases = [Case("Fix a bike", ("Repair a bike",)), Case("Mend a bike", ()), Case("Bake bread", ())]
    rows = of_cases(cases, same, 0.8)
    assert rows[-1].value == 750.0
