import pytest
from sqlalchemy import select
from tests.workers.core.ledger.rows import delivery
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_workers.core.tables import JOBS, STEPS
from headrace_workers.features.webhooks.store.deliveries import TWICE_MS, Preview, Range
from headrace_workers.features.webhooks.store.webhooks import Webhooks
from headrace_workers.features.webhooks.tables import DELIVERIES

MINE = Range(endpoint_id="we_1", tenant="a", since=100, until=200)


@pytest.fixture
def many(ledger):
    """Of each kind another number; and beside the range such as are like them."""
    now = ledger.now()
    for kind, times, state, replayed_at in (
        ("failed", 1, "dead", None), ("failed long ago again", 2, "dead", now - TWICE_MS - 1),
        ("failed again", 4, "dead", now), ("delivered", 8, "done", None), ("delivered again", 16, "done", now),
        ("pending", 32, "active", None), ("withdrawn", 3, "cancelled", None),
    ):  # fmt: skip
        for number in range(times):
            delivery(ledger, f"{kind} {number}", state, replayed_at=replayed_at)
    for name, fields in (
        ("endpoint", {"endpoint_id": "we_2"}), ("tenant", {"tenant": "b"}), ("before", {"created_at": 99}),
        ("after", {"created_at": 200}),
    ):  # fmt: skip
        delivery(ledger, f"dead by {name}", "dead", **fields)
        delivery(ledger, f"done by {name}", "done", **fields)
    return ledger


def rows(ledger):
    """All of each delivery, its job and its step, by id."""
    return {
        row.id: row._asdict()
        for row in ledger.read(
            select(DELIVERIES.c.replayed_at, JOBS, *(c.label(f"step_{c.name}") for c in STEPS.c))
            .join(JOBS, JOBS.c.id == DELIVERIES.c.id)
            .join(STEPS, STEPS.c.job_id == DELIVERIES.c.id)
        )
    }


@pytest.mark.parametrize(("delivered", "shown"), [(False, Preview(3, 0, 20)), (True, Preview(3, 8, 20))])
def test_what_would_be_sent_again_is_sent_again(many, delivered, shown):
    """And nothing else: neither what is under way, was withdrawn or was sent again a moment ago, nor what is beside."""
    before, now = rows(many), many.now()
    assert many.of(Webhooks).preview(MINE, delivered=delivered) == shown
    assert rows(many) == before
    assert many.of(Webhooks).replay(MINE, delivered=delivered) == shown.failed + shown.delivered
    after = rows(many)
    sent = {name for name, row in after.items() if row != before[name]}
    assert {name.rpartition(" ")[0] for name in sent} == {
        "failed", "failed long ago again", *(["delivered"] if delivered else []),
    }  # fmt: skip
    assert len(sent) == shown.failed + shown.delivered
    for name in sent:
        at = after[name]["replayed_at"]
        assert now <= at <= many.now()
        assert after[name] == before[name] | {
            "replayed_at": at, "state": "active", "accepted_at": at, "ended_at": None, "replays": 1,
            "step_state": "ready", "step_ready_at": at, "step_deadline": after[name]["step_deadline"],
        }  # fmt: skip
    shown_then = many.of(Webhooks).preview(MINE, delivered=delivered)
    assert (shown_then.failed, shown_then.delivered, shown_then.just_now) == (0, 0, 20)
    assert many.of(Webhooks).replay(MINE, delivered=delivered) == 0


def test_the_oldest_are_sent_again_first(ledger, monkeypatch):
    monkeypatch.setattr("headrace_workers.features.webhooks.store.deliveries.AT_ONCE", 2)
    for name, at in (("c", 100), ("a", 300), ("b", 200), ("d", 200), ("e", 100)):
        delivery(ledger, name, "dead", created_at=at)
    sent = []
    while count := ledger.of(Webhooks).replay(Range(), delivered=False):
        ready = [row.job_id for row in ledger.read(select(STEPS.c.job_id).where(STEPS.c.state == "ready"))]
        assert count == len(ready) - len(sent)
        sent += sorted(set(ready) - set(sent))
    assert sent == ["c", "e", "b", "d", "a"]
