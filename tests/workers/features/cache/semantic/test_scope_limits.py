from headrace_workers.features.cache.semantic.scope_limits import judge, together
from headrace_workers.features.cache.store.audits import (
    Counted,
    Labels,
    OtherCounts,
    ScopeStanding,
    Seen,
    Tally,
    Window,
)

NEW = ScopeStanding(scope="ab" * 32, tenant="shop")


def tally(clean: int, wrong: int = 0, unknown: int = 0, served: int = 10_000, stratum: int = 0) -> Tally:
    return Tally(stratum, 0.05, served, Labels(clean, wrong, unknown))


def told(
    *tallies: Tally,
    before: ScopeStanding = NEW,
    window: Window | None = None,
    beside: OtherCounts = OtherCounts(),  # noqa: B008 - a value
) -> ScopeStanding:
    """How a scope stands, in its first window where none is named."""
    return judge(Counted(before, tallies, window or Window(1, tallies), beside, Seen((), 0)), 0.01)


def test_a_scope_is_shown_by_clean_audits_alone() -> None:
    """333 of one stratum do for 1 %; what is unknown is taken for wrong, and one wrong is too many yet."""
    assert told(tally(298)).state == "not yet shown"
    assert told(tally(333)).state == "shown"
    assert told(tally(333, unknown=1)).state == told(tally(333, wrong=1)).state == "not yet shown"


def test_wrong_labels_turn_it_off_and_doubt_does_not() -> None:
    off, doubtful = told(tally(10, wrong=4)), told(tally(10, unknown=90))
    assert (off.state, off.figures["wrong"], off.figures["served"]) == ("off", 4, 10_000)
    assert off.figures["lower"] > 0.01
    assert doubtful.state == "not yet shown"
    assert doubtful.figures["upper"] < doubtful.figures["upper_if_unknown_wrong"]


def test_the_newest_window_sees_what_a_long_good_past_hides() -> None:
    past, newest = tally(2_000, wrong=15), tally(60, wrong=15, served=1_000)
    assert told(past).state == "not yet shown"
    standing = told(past, window=Window(11, (newest,)))
    assert (standing.state, standing.figures["recent"]["wrong"]) == ("off", 15)
    assert "newest window" in standing.sentence


def test_once_off_it_stays_so_with_its_sentence() -> None:
    off = told(tally(10, wrong=4))
    later = told(tally(400), before=off)
    assert (later.state, later.sentence, later.figures["wrong"]) == ("off", off.sentence, 0)


def test_what_stands_beside_the_bound_is_told_and_changes_nothing() -> None:
    """However often what was nearly served would have been wrong, and the model contradicts itself."""
    tallies = (tally(333),)
    beside = OtherCounts(refused=Labels(0, 400, 0), own=Labels(1, 50, 3))
    standing = told(*tallies, beside=beside)
    assert standing.state == "shown"
    assert (standing.figures["audits"], standing.figures["wrong"]) == (333, 0)
    assert (standing.figures["refused"]["wrong"], standing.figures["own"]["wrong"]) == (400, 50)
    plain = told(*tallies)
    assert {name: plain.figures[name] for name in ("upper", "lower", "recent")} == {
        name: standing.figures[name] for name in ("upper", "lower", "recent")
    }


def test_all_scopes_together_are_bounded_as_one() -> None:
    assert together([NEW]) is None
    clean, other = told(tally(420)), told(tally(100, wrong=1, unknown=2, served=500))
    whole = together([NEW, clean, other])
    assert whole is not None
    assert (whole.scopes, whole.served) == (2, 10_500)
    assert (whole.bound.audits, whole.bound.wrong, whole.bound.unknown) == (523, 1, 2)
    assert clean.figures["upper"] < whole.bound.upper < whole.bound.upper_if_unknown_wrong < other.figures["upper"]
