from headrace_workers.features.webhooks.sender import Reply
from headrace_workers.features.webhooks.stage import PATIENCE, health_after
from headrace_workers.features.webhooks.store.endpoints import Health

WELL = Health(registered=True)
TAKEN, FAILED = Reply(ms=1, status=200), Reply(ms=1, status=500, error="it answered 500")
HOUR, DAY = 3_600_000, 86_400_000


def test_what_is_taken_changes_nothing():
    assert health_after(WELL, [TAKEN, TAKEN], 1) == health_after(WELL, [], 1) == WELL


def test_a_few_failures_are_counted_and_forgotten():
    """The first of a row says since when; one letter that is taken ends it."""
    failing = health_after(WELL, [FAILED, FAILED], 1_000)
    assert (failing.failures, failing.failing_since, failing.paused_until) == (2, 1_000, None)
    assert health_after(failing, [FAILED], 9_000).failing_since == 1_000
    assert health_after(failing, [TAKEN], 9_000) == WELL


def test_five_in_a_row_open_the_circuit():
    open_ = health_after(WELL, [FAILED] * PATIENCE, 1_000)
    assert open_.paused_until == 11_000
    assert health_after(open_, [FAILED] * 3, 2_000).paused_until == 11_000


def test_each_failed_probe_doubles_the_pause():
    stands, now, pauses = health_after(WELL, [FAILED] * PATIENCE, 0), 0, []
    for _ in range(9):
        pauses.append(stands.paused_until - now)
        now = stands.paused_until
        stands = health_after(stands, [FAILED], now)
    assert pauses == [10_000, 20_000, 40_000, 80_000, 160_000, 320_000, 600_000, 600_000, 600_000]
    assert health_after(stands, [TAKEN], now) == WELL


def test_an_hour_of_errors_disables_nobody():
    stands, now = WELL, 0
    while now < HOUR:
        stands = health_after(stands, [FAILED], now)
        now = max(now + 5_000, stands.paused_until or 0)
    assert stands.disabled is None
    assert health_after(stands, [TAKEN], now) == WELL


def test_five_days_of_nothing_else_disable_it():
    failing = health_after(WELL, [FAILED], 0)
    assert health_after(failing, [FAILED], 5 * DAY).disabled is None
    assert "five days" in health_after(failing, [FAILED], 5 * DAY + 1).disabled
    assert health_after(health_after(failing, [TAKEN], DAY), [FAILED], 5 * DAY + 1).disabled is None


def test_410_disables_a_registered_endpoint():
    gone = Reply(ms=1, status=410, error="it answered 410")
    assert "410" in health_after(WELL, [gone], 0).disabled
    assert health_after(Health(registered=False), [gone], 0).disabled is None


def test_a_receiver_may_ask_for_a_pause():
    wish = Reply(ms=1, status=503, error="503", after=60.0)
    assert health_after(WELL, [wish], 1_000).paused_until == 61_000
    assert health_after(WELL, [Reply(ms=1, status=429, error="429", after=86_400.0)], 0).paused_until == HOUR
    longer = Health(registered=True, failures=9, failing_since=0, pauses=7, paused_until=500_000)
    assert health_after(longer, [wish], 1_000).paused_until == 500_000


def test_what_was_asked_for_holds_beside_what_is_taken():
    wish = Reply(ms=1, status=429, error="429", after=60.0)
    for replies in ([wish, TAKEN], [TAKEN, wish], [FAILED, TAKEN, wish, TAKEN, TAKEN]):
        stands = health_after(WELL, replies, 1_000)
        assert stands.paused_until == 61_000
    assert health_after(stands, [TAKEN], 60_999).paused_until == 61_000
    assert health_after(stands, [TAKEN], 61_000) == WELL
    assert health_after(WELL, [*[FAILED] * PATIENCE, wish, TAKEN], 1_000) == WELL


def test_a_wrong_url_says_nothing_about_its_receiver():
    assert health_after(WELL, [Reply(ms=0, error="no URL", hopeless=True)] * 9, 0) == WELL
