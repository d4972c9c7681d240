import pytest

from headrace_workers.stats.error_bounds import (
    Recent,
    State,
    Stratum,
    clean_audits_needed,
    standing,
)


def _one(clean: int, wrong: int = 0, unknown: int = 0) -> list[Stratum]:
    return [Stratum(100_000, clean=clean, wrong=wrong, unknown=unknown)]


def test_299_clean_audits_are_the_least_for_one_per_cent() -> None:
    assert (clean_audits_needed(0.01), clean_audits_needed(0.005)) == (299, 598)


@pytest.mark.parametrize(
    ("strata", "sentence"),
    [
        (_one(0), "Not yet shown: 0 clean audits of the 299 that it takes at least (0 audits, 0 wrong)."),
        (_one(298), "Not yet shown: 298 clean audits of the 299 that it takes at least (298 audits, 0 wrong)."),
        (_one(299), "Not yet shown: at most 1.11 % is wrong, and 1 % is allowed (299 audits, 0 wrong)."),
        (
            _one(900, unknown=50),
            "Not yet shown: at most 0.38 % is wrong, and 1 % is allowed (950 audits, 0 wrong). 50 wait for a person's "
            "label (`headrace review audits`): were all of them wrong, at most 8.04 % would be.",
        ),
    ],
)
def test_what_is_not_shown_is_said(strata: list[Stratum], sentence: str) -> None:
    """With what is lacking: audits, a tighter bound, or labels by people."""
    told = standing(strata, 0.01)
    assert told.state is State.NOT_YET_SHOWN
    assert told.sentence == sentence


def test_a_bound_within_what_is_allowed_holds() -> None:
    told = standing(_one(400), 0.01)
    assert (told.state, told.sentence) == (
        State.HOLDS,
        "Holds: at most 0.84 % of what was served is wrong, and 1 % is allowed (400 audits, 0 wrong).",
    )
    assert standing(_one(2_000, wrong=2, unknown=3), 0.01).state is State.HOLDS


def test_undecided_audits_break_nothing() -> None:
    assert standing(_one(300, unknown=300), 0.01).state is State.NOT_YET_SHOWN
    told = standing(_one(300, wrong=30), 0.01)
    assert told.state is State.BROKEN
    assert told.sentence == (
        "Broken: 30 of 330 audits were wrong, so at least 4.62 % of what was served is, and 1 % is allowed. "
        "The semantic tier of this scope is off."
    )


def test_a_recent_window_shows_what_a_long_good_past_hides() -> None:
    whole = _one(10_048, wrong=12)
    assert standing(whole, 0.01).state is State.HOLDS
    told = standing(whole, 0.01, recent=Recent(51, [Stratum(1_000, clean=48, wrong=12)]))
    assert told.state is State.BROKEN
    assert told.sentence.startswith("Broken: 12 of 60 audits of the newest window were wrong")
    assert told.recent is not None
    assert told.recent.lower > 0.05


def test_a_max_error_that_is_no_share_is_refused() -> None:
    with pytest.raises(ValueError, match="max_error is a share"):
        standing([], 1.0)
