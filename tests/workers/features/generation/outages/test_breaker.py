"""The circuit breaker of a model, as a function of what its calls came to."""

from dataclasses import replace
from random import Random

import pytest

from headrace_workers.features.generation.store.breakers import (
    FIRST_MS,
    LONGEST_MS,
    LONGEST_WISH_MS,
    OTHERS_FIRST_MS,
    PATIENCE,
    Breaker,
    after_failure,
    after_nothing,
    after_success,
)

NOW = 1_800_000_000_000


def failed(breaker, times, now=NOW, **more):
    """The breaker after so many failures."""
    for _ in range(times):
        breaker = after_failure(breaker, now, "it is down", **more)
    return breaker


def test_it_opens_after_five_failures_in_a_row():
    assert failed(Breaker(), PATIENCE - 1).state(NOW) == "closed"
    opened = failed(Breaker(), PATIENCE)
    assert (opened.state(NOW), opened.opens_in(NOW), opened.reason) == ("open", FIRST_MS, "it is down")
    assert after_success(failed(Breaker(), PATIENCE - 1)) == Breaker()


def test_calls_that_were_under_way_when_it_opened_open_it_no_longer():
    opened = failed(Breaker(), PATIENCE)
    assert failed(opened, 59, NOW + 5).open_until == opened.open_until


def test_each_failed_probe_doubles_the_time():
    """Up to 15 seconds, so that traffic returns soon after an outage."""
    breaker, now, pauses = failed(Breaker(), PATIENCE), NOW, []
    for _ in range(3):
        pauses.append(breaker.opens_in(now, "a"))
        now += pauses[-1]
        assert (breaker.state(now), breaker.opens_in(now, "a")) == ("half_open", 0)
        breaker = failed(replace(breaker, probed_by="a"), 1, now, probed=True)
    assert pauses == [FIRST_MS, LONGEST_MS, LONGEST_MS] == [10_000, 15_000, 15_000]
    assert breaker.opened_at == NOW
    assert after_success(breaker) == Breaker()


def test_a_provider_that_names_a_time_is_not_asked_before():
    wish = failed(Breaker(), 1, until=NOW + 1_800_000)
    assert wish.opens_in(NOW) == 1_800_000
    assert failed(Breaker(), 1, until=NOW + 10**12).opens_in(NOW) == LONGEST_WISH_MS
    longer = failed(failed(Breaker(), PATIENCE), 1, until=NOW + 60_000)
    assert longer.opens_in(NOW) == 60_000


def test_chance_cuts_each_time_by_up_to_a_half_save_a_time_that_was_named():
    opened = failed(Breaker(), PATIENCE, jitter=1.0)
    assert opened.opens_in(NOW) == FIRST_MS / 2
    later = opened.open_until
    probed = failed(replace(opened, probed_by="a"), 1, later, probed=True, jitter=0.5)
    assert probed.opens_in(later, "a") == 0.75 * LONGEST_MS
    assert failed(Breaker(), 1, until=NOW + 60_000, jitter=1.0).opens_in(NOW) == 60_000


def test_a_probe_that_came_to_nothing_leaves_the_next_one_to_others():
    probing = Breaker(openings=1, open_until=NOW - 9_000, probed_until=NOW + 500, probed_by="a")
    after = after_nothing(probing, NOW)
    assert [after.opens_in(NOW, tenant) for tenant in ("a", "b")] == [OTHERS_FIRST_MS, 0]
    assert after_nothing(Breaker(), NOW) == Breaker()
    assert after_nothing(replace(probing, open_until=NOW + 900), NOW).open_until == NOW + 900


@pytest.mark.parametrize("chance", [lambda: 0.0, lambda: 1.0, Random(7).random])
def test_traffic_returns_within_15_seconds_of_a_recovery(chance):
    for away in range(5, 120):
        asked, answered = calls(lambda second, until=away: second >= until, away + 30, chance)
        assert min(answered) <= away + 15
        assert answered == list(range(min(answered), away + 30))
        assert len(asked) - len(answered) <= PATIENCE + away // 5


def test_a_model_that_flaps_answers_while_it_is_up():
    _, answered = calls(lambda second: second // 5 % 2 == 1, 300, Random(7).random)
    assert len(answered) >= 15


def calls(is_up, seconds, chance):
    """The seconds in which one tenant's calls, one a second, reach this model, and are answered."""
    breaker, asked, answered = Breaker(), [], []
    for second in range(seconds):
        now = NOW + 1_000 * second
        if breaker.opens_in(now, "a"):
            continue
        asked.append(second)
        probed = breaker.open_until is not None
        if is_up(second):
            breaker = after_success(breaker)
            answered.append(second)
        else:
            breaker = replace(breaker, probed_by="a" if probed else None)
            breaker = failed(breaker, 1, now, probed=probed, jitter=chance())
    return asked, answered


def test_the_tenant_that_probed_last_lets_others_go_first():
    """Its prompts may be what fails. If nobody else asks for five seconds, it may probe again."""
    breaker = failed(Breaker(openings=1, open_until=NOW, probed_until=NOW + 500, probed_by="a"), 1, probed=True)
    then = breaker.open_until
    assert [breaker.opens_in(then, tenant) for tenant in ("a", "b", None)] == [OTHERS_FIRST_MS, 0, 0]
    assert breaker.opens_in(then + OTHERS_FIRST_MS, "a") == 0
    assert after_success(breaker).opens_in(then, "a") == 0


def test_while_somebody_probes_nobody_else_asks():
    breaker = Breaker(openings=1, open_until=NOW, probed_until=NOW + 500)
    assert (breaker.state(NOW), breaker.opens_in(NOW), breaker.opens_in(NOW + 500)) == ("half_open", 500, 0)
