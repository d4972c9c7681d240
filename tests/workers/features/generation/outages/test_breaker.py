"""The circuit breaker of a model, as a function of what its calls came to."""

from headrace_workers.features.generation.breaker import (
    FIRST_MS,
    LONGEST_MS,
    LONGEST_WISH_MS,
    PATIENCE,
    Breaker,
    after_failure,
    after_success,
)

NOW = 1_800_000_000_000


def failed(breaker, times, now=NOW, **more):
    """The breaker after so many failures."""
    for _ in range(times):
        breaker = after_failure(breaker, now, "it is down", **more)
    return breaker


def test_it_opens_after_five_failures_in_a_row():
    """Not before, and not where a call was answered between them."""
    assert failed(Breaker(), PATIENCE - 1).state(NOW) == "closed"
    opened = failed(Breaker(), PATIENCE)
    assert (opened.state(NOW), opened.opens_in(NOW), opened.reason) == ("open", FIRST_MS, "it is down")
    assert after_success(failed(Breaker(), PATIENCE - 1)) == Breaker()


def test_calls_that_were_under_way_when_it_opened_open_it_no_longer():
    """Sixty-four calls fail together: that is one outage."""
    opened = failed(Breaker(), PATIENCE)
    assert failed(opened, 59, NOW + 5).open_until == opened.open_until


def test_each_failed_probe_doubles_the_time():
    """Up to a minute, so that a dead provider is asked once a minute."""
    breaker, now, pauses = failed(Breaker(), PATIENCE), NOW, []
    for _ in range(5):
        pauses.append(breaker.open_until - now)
        now = breaker.open_until
        assert breaker.state(now) == "half_open"
        breaker = failed(breaker, 1, now, probed=True)
    assert pauses == [FIRST_MS, 2 * FIRST_MS, 4 * FIRST_MS, LONGEST_MS, LONGEST_MS]
    assert breaker.opened_at == NOW
    assert after_success(breaker) == Breaker()


def test_a_provider_that_names_a_time_is_not_asked_before():
    """After one failure, and for an hour at most."""
    wish = failed(Breaker(), 1, until=NOW + 1_800_000)
    assert wish.opens_in(NOW) == 1_800_000
    assert failed(Breaker(), 1, until=NOW + 10**12).opens_in(NOW) == LONGEST_WISH_MS
    longer = failed(failed(Breaker(), PATIENCE), 1, until=NOW + 60_000)
    assert longer.opens_in(NOW) == 60_000


def test_while_somebody_probes_nobody_else_asks():
    """Until the time that the probe has is over."""
    breaker = Breaker(openings=1, open_until=NOW, probed_until=NOW + 500)
    assert (breaker.state(NOW), breaker.opens_in(NOW), breaker.opens_in(NOW + 500)) == ("half_open", 500, 0)
