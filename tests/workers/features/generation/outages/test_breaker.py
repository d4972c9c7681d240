"""The circuit breaker of a model, as a function of what its calls came to."""

from dataclasses import replace
from random import Random

import pytest

from headrace_workers.features.generation.store.breakers import (
    FIRST_MS,
    LONGEST_MS,
    LONGEST_WISH_MS,
    MOST_TENANTS,
    OTHERS_FIRST_MS,
    PATIENCE,
    Breaker,
    after_failure,
    after_nothing,
    after_success,
    probing,
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


def answers(breaker, *tenants, now=NOW):
    """The breaker after the model answered these tenants, in this order."""
    for tenant in tenants:
        breaker = after_success(breaker, now, tenant)
    return breaker


def fails_for(breaker, *tenants, now=NOW, **more):
    """The breaker after the model failed for these tenants, in this order."""
    for tenant in tenants:
        breaker = after_failure(breaker, now, "it is down", tenant=tenant, **more)
    return breaker


def test_a_tenant_alone_that_fails_opens_the_breaker_for_itself():
    """Its prompts may be what fails, however often others are answered in between."""
    breaker = answers(Breaker(), "victim")
    for round_ in range(40):
        breaker = fails_for(breaker, "attacker", now=NOW + round_)
        breaker = answers(breaker, "victim", now=NOW + round_) if round_ % 7 == 6 else breaker
    assert (breaker.state(NOW), breaker.opens_in(NOW, "victim")) == ("closed", 0)
    assert breaker.opens_in(NOW + 5, "attacker") > FIRST_MS - 50
    assert breaker.open_for(NOW + 5) == {"attacker"}


def test_an_outage_opens_the_breaker_though_one_tenant_has_nearly_all_calls():
    breaker = answers(Breaker(), "large", "small")
    breaker = fails_for(breaker, *["large"] * 38, "small")
    assert breaker.state(NOW) == "closed"
    assert fails_for(breaker, "small").state(NOW) == "open"


def test_a_failure_of_another_tenant_now_and_then_is_no_outage():
    breaker = answers(Breaker(), "victim")
    for _ in range(20):
        breaker = answers(fails_for(breaker, *["attacker"] * 9, "victim"), "victim")
        assert breaker.state(NOW) == "closed"


def test_failures_of_many_tenants_open_the_breaker():
    assert fails_for(answers(Breaker(), "a"), *"bcde").state(NOW) == "closed"
    assert fails_for(answers(Breaker(), "a"), *"bcdef").state(NOW) == "open"


def test_failures_before_an_answer_count_for_nothing_in_an_outage():
    breaker = answers(Breaker(), "a")
    for tenant in "bcdefgh":
        breaker = answers(fails_for(breaker, tenant, *["attacker"] * 9), "a")
        assert breaker.state(NOW) == "closed"
    assert fails_for(breaker, *"bcde").state(NOW) == "closed"
    assert fails_for(breaker, *"bcdef").state(NOW) == "open"


@pytest.mark.parametrize(
    ("known", "state"), [(Breaker(), "open"), (answers(Breaker(), "only"), "open"), (answers(Breaker(), "b"), "closed")]
)
def test_a_model_that_one_tenant_uses_is_protected_by_its_failures_alone(known, state):
    assert fails_for(known, *["only"] * PATIENCE).state(NOW) == state
    assert fails_for(known, *["only"] * PATIENCE, now=NOW + 3_600_000).state(NOW + 3_600_000) == "open"


def test_a_probe_of_a_tenant_alone_says_nothing_about_others():
    breaker = fails_for(answers(Breaker(), "victim"), *["attacker"] * PATIENCE)
    later = NOW + FIRST_MS
    probed = probing(breaker, later, "attacker", 500)
    assert (probed.opens_in(later, "attacker"), probed.opens_in(later, "victim")) == (500, 0)
    assert probing(breaker, later, "victim", 500) is None
    failed_again = fails_for(probed, "attacker", now=later, probed=True)
    assert failed_again.state(later) == "closed"
    assert (failed_again.opens_in(later, "attacker"), failed_again.opens_in(later, "victim")) == (LONGEST_MS, 0)
    nothing = after_nothing(probed, later, "attacker")
    assert (nothing.state(later), nothing.opens_in(later, "attacker")) == ("closed", 0)
    assert answers(probed, "attacker", now=later).is_closed("attacker")


def test_a_probe_that_others_need_is_not_for_a_tenant_that_fails_alone():
    opened = fails_for(Breaker(), *["attacker"] * 20, "a", "b")
    later = opened.open_until
    still = replace(opened, tenants={"attacker": replace(opened.tenants["attacker"], open_until=later + 9_000)})
    assert probing(still, later, "attacker", 500) is None
    probed = probing(still, later, "a", 500)
    closed = answers(probed, "a", now=later)
    assert (closed.state(later), closed.opens_in(later, "b"), closed.opens_in(later, "attacker")) == (
        "closed",
        0,
        9_000,
    )


def test_answers_of_one_tenant_do_not_keep_another_asking_a_model_that_fails_for_it():
    breaker = Breaker()
    for _ in range(PATIENCE):
        breaker = answers(fails_for(breaker, "victim"), "attacker")
    assert breaker.open_for(NOW) == {"victim"}


def test_what_is_kept_of_tenants_is_bounded():
    breaker = answers(Breaker(), *(f"t{number}" for number in range(99)))
    assert len(breaker.answered) == 2
    for number in range(500):
        breaker = fails_for(replace(breaker, failures=0), f"t{number}", *["attacker"] * 2)
    assert len(breaker.tenants) == MOST_TENANTS
    assert "attacker" in breaker.tenants


def test_an_answer_is_noted_again_once_a_tenant_fails_alone():
    """Few writes, and yet the bridge knows whether anybody is answered."""
    breaker = answers(Breaker(), "a", "b")
    assert answers(breaker, "a", "c", now=NOW + 500) == breaker
    alone = fails_for(breaker, *["attacker"] * PATIENCE, now=NOW + 500)
    assert not alone.answers_others()
    assert answers(alone, "c", now=NOW + 600).answers_others()
