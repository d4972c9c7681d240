import hashlib
import threading
from collections.abc import Callable
from dataclasses import replace
from uuid import uuid4

import pytest
from pydantic_core import from_json
from sqlalchemy import select, update
from tests.workers.core.ledger.test_uses import again
from tests.workers.http.served import answer

from headrace_schemas import Category, GenerationJob, Topic
from headrace_schemas.codec import encode_value
from headrace_workers.core.ledger import positions
from headrace_workers.core.ledger.accepted import AdmissionRequest, Reserved
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.dead_letters import Burial, Record, refusal
from headrace_workers.core.ledger.ingest import NewJob
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.positions import LogPartition
from headrace_workers.core.ledger.replay import DeadFilter
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import DEAD_LETTERS, JOBS, STEPS
from headrace_workers.features.access.store import quota_rows, quotas
from headrace_workers.features.access.store.quotas import Quotas, WantedQuota
from headrace_workers.features.access.tables import QUOTAS, RESERVATIONS
from headrace_workers.features.spend.store import DAY_MS

Make = Callable[..., NewJob]


def state(ledger: Ledger, tenant: str = "a") -> tuple[int, int]:
    (quota,) = ledger.of(Quotas).find([tenant])
    return quota.used, quota.reserved


def refused(ledger: Ledger) -> list[str]:
    return [row.category for row in ledger.read(select(DEAD_LETTERS.c.category))]


def reserved(ledger: Ledger) -> set[str]:
    return {row.job_id for row in ledger.read(select(RESERVATIONS.c.job_id))}


def test_a_job_that_may_be_answered_again_is_let_in_where_all_its_answers_fit(ledger: Ledger, job: Make):
    ledger.of(Quotas).put("a", 100, "ever")
    first, second = (replace(job(tokens=30), most_tokens=most) for most in (90, 101))
    taken = ledger.ingest([second, first])
    assert (taken.new, [new_job.id for new_job, _ in taken.over], state(ledger)) == (1, [second.id], (0, 90))


def test_a_job_by_kafka_is_reserved_in_its_own_transaction_or_refused(ledger: Ledger, job: Make):
    ledger.of(Quotas).put("a", 100, "ever")
    first, second, third = job(tokens=60), job(tokens=50), job(tokens=40)
    taken = ledger.ingest([first, second, third])
    assert (taken.new, [new_job.id for new_job, _ in taken.over]) == (2, [second.id])
    assert (state(ledger), reserved(ledger)) == ((0, 100), {first.id, third.id})
    assert refused(ledger) == [Category.QUOTA]
    assert ledger.standings([second.id])[second.id].refused.category is Category.QUOTA
    answer(ledger, first.id)  # ten tokens
    assert state(ledger) == (10, 40)
    again = replace(second, record=replace(second.record, offset=10_000))
    assert ledger.ingest([again]).new == 1
    assert state(ledger) == (10, 90)


def test_a_gateway_reserves_for_all_jobs_of_a_request_or_none(ledger: Ledger, job: Make):
    ledger.of(Quotas).put("a", 100, "ever")
    one, two = job(tokens=60), job(tokens=60)
    together = [WantedQuota(new_job.id, "a", 60, group="request") for new_job in (one, two)]
    assert set(ledger.of(Quotas).reserve(together)) == {one.id, two.id}
    assert state(ledger) == (0, 0)
    assert ledger.of(Quotas).reserve(together[:1]) == {}
    assert ledger.of(Quotas).reserve(together[:1]) == {}  # the same request, sent again
    assert state(ledger) == (0, 60)
    ledger.of(Quotas).put("a", 50, "ever")  # a smaller one: what was let in is let in
    assert ledger.ingest([one]).new == 1
    ledger.of(Quotas).release([(one.id, "")])  # too late: it runs
    assert state(ledger) == (0, 60)
    ledger.of(Quotas).put("a", 200, "ever")
    ledger.of(Quotas).reserve(together[1:])
    ledger.of(Quotas).release([(two.id, "")])
    assert (state(ledger), reserved(ledger)) == ((0, 60), {one.id})


def test_a_key_that_is_used_again_is_reserved_what_its_new_content_may_cost(ledger: Ledger, job: Make):
    ledger.of(Quotas).put("a", 100, "ever")
    new = job(tokens=90)
    assert ledger.of(Quotas).reserve([WantedQuota(new.id, "a", 10, digest="small")]) == {}
    assert set(ledger.of(Quotas).reserve([WantedQuota(new.id, "a", 101, digest="large")])) == {new.id}
    assert state(ledger) == (0, 10)
    ledger.of(Quotas).reserve([WantedQuota(other := str(uuid4()), "a", 20, digest="other")])
    assert ledger.ingest([new]).over  # another sender's record, by Kafka
    assert state(ledger) == (0, 30)
    assert ledger.of(Quotas).reserve([WantedQuota(new.id, "a", 80, digest="large")]) == {}
    assert ledger.of(Quotas).reserve([WantedQuota(other, "a", 5, digest="smaller")]) == {}
    assert state(ledger) == (0, 85)
    small = replace(job(tokens=40, job_id=new.id), record=replace(new.record, offset=10_000))
    assert ledger.ingest([small]).new == 1
    assert state(ledger) == (0, 45)


def test_a_lowered_quota_lets_in_what_was_reserved_and_nothing_beside_it(ledger: Ledger, job: Make):
    ledger.of(Quotas).put("a", 100, "ever")
    first, second = job(tokens=60), job(tokens=5)
    ledger.of(Quotas).reserve([WantedQuota(first.id, "a", 70)])
    ledger.of(Quotas).put("a", 50, "ever")
    taken = ledger.ingest([first, second])
    assert ([new_job.id for new_job, _ in taken.over], state(ledger)) == ([second.id], (0, 60))


def gateway_says(says: str) -> tuple[bytes, str]:
    value = encode_value(GenerationJob(model="m", prompt=says))
    return value, hashlib.sha256(value).hexdigest()


def sound_refusal(job_id: str, value: bytes, offset: int) -> Burial:
    record = Record(Topic.GENERATION, 0, offset, (), value, 1, job_id.encode())
    return refusal(record, Category.EXPIRED, "late", refers_to=job_id, tenant="a", sound=True)


def test_a_refusal_releases_what_was_reserved_in_its_own_transaction(ledger: Ledger, monkeypatch: pytest.MonkeyPatch):
    ledger.of(Quotas).put("a", 100, "ever")
    job_id, (value, digest) = str(uuid4()), gateway_says("p")
    ledger.of(Quotas).reserve([WantedQuota(job_id, "a", 10, digest=digest)])
    with monkeypatch.context() as patched:
        patched.setattr(positions, "advance", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            ledger.ingest([], [sound_refusal(job_id, value, 100)])
    assert (state(ledger), refused(ledger)) == ((0, 10), [])
    ledger.ingest([], [sound_refusal(job_id, gateway_says("q")[0], 101), sound_refusal(job_id, b"{", 102)])
    assert state(ledger) == (0, 10)  # the record of another content was refused
    ends = value[:-1] + b',"deadline":"2026-01-01T00:00:00Z"}'
    ledger.ingest([], [sound_refusal(job_id, ends, 103)])
    assert (state(ledger), reserved(ledger)) == ((0, 0), set())


def test_what_is_refused_under_a_key_that_runs_releases_only_what_was_reserved_for_it(ledger: Ledger, job: Make):
    ledger.of(Quotas).put("a", 100, "ever")
    runs = job(tokens=30)
    ledger.ingest([runs])
    (value, digest), record = gateway_says("q"), replace(runs.record, offset=10_001)
    assert ledger.of(Quotas).reserve([WantedQuota(runs.id, "a", 60, digest=digest)]) == {}
    assert state(ledger) == (0, 30)
    ledger.ingest([replace(runs, payload=value, record=replace(record, value=value))])
    assert (refused(ledger), state(ledger)) == ([Category.CONFLICT], (0, 30))
    answer(ledger, runs.id)
    ledger.of(Quotas).reserve(
        [WantedQuota(runs.id, "a", 60, digest=digest)]
    )  # by a gateway that looked before it had ended
    assert state(ledger) == (10, 60)
    ledger.ingest([replace(runs, payload=value, record=replace(record, value=value, offset=10_002))])
    assert (state(ledger), reserved(ledger)) == ((10, 0), set())


def test_five_jobs_under_one_key_never_get_beyond_the_quota(ledger: Ledger, job: Make):
    ledger.of(Quotas).put("a", 2_000, "ever")
    for n in range(5):
        large = replace(job(tokens=30_000), payload=gateway_says("large")[0])
        for says, tokens in (("p", 10), ("large", 30_000)):
            value, digest = gateway_says(says)
            assert ledger.reserve([AdmissionRequest(large.id, "a", value, digest)]) == [Reserved.SEND]
            if ledger.of(Quotas).reserve([WantedQuota(large.id, "a", tokens, digest=digest)]):
                continue  # 429
            ledger.confirm_admission([AdmissionRequest(large.id, "a", value, digest)])
            if says == "p":
                ledger.ingest([], [sound_refusal(large.id, value, 1_000 + n)])
        assert ledger.ingest([large]).new == 0  # and by Kafka
    assert (state(ledger), reserved(ledger), ledger.active_jobs()) == ((0, 0), set(), 0)


def test_what_never_comes_is_given_back_after_an_hour(ledger: Ledger, job: Make):
    ledger.of(Quotas).put("a", 100, "ever")
    running = job(tokens=30)
    ledger.ingest([running])
    ledger.of(Quotas).reserve([WantedQuota("7d0c0b9e-33a4-5c8e-9d55-0d9a3b2c1f00", "a", 60)])
    ledger.prune(10**9)
    assert state(ledger) == (0, 90)
    with writing(ledger.engine) as tx:
        tx.execute(
            update(RESERVATIONS)
            .where(RESERVATIONS.c.job_id != running.id)
            .values(expires_at=RESERVATIONS.c.expires_at - quotas.UNADOPTED_MS - 1)
        )
    ledger.prune(10**9)
    assert (state(ledger), reserved(ledger)) == ((0, 30), {running.id})


def test_what_never_comes_is_given_back_when_ingest_has_read_what_came_since(ledger: Ledger, job: Make):
    ledger.of(Quotas).put("a", 100, "ever")
    late = job(tokens=60)
    ledger.of(Quotas).reserve([WantedQuota(late.id, "a", 60)])
    places = [LogPartition("jobs.generation", number, "log") for number in (0, 1)]
    ledger.share("bridge", places, 1_000)
    read = ledger.now() + quotas.PASSED_MS + 1_000
    ledger.note_read(places[:1], read)
    ledger.prune(10**9)
    assert state(ledger) == (0, 60)
    ledger.note_read(places[1:], ledger.now())
    ledger.prune(10**9)
    assert state(ledger) == (0, 60)
    ledger.note_read(places[1:], read)
    ledger.prune(10**9)
    assert state(ledger) == (0, 0)
    ledger.ingest([other := job(tokens=50)])
    ((refused, _),) = ledger.ingest([late]).over
    assert (refused.id, reserved(ledger)) == (late.id, {other.id})


def test_a_job_that_is_cancelled_costs_nothing(ledger: Ledger, job: Make):
    ledger.of(Quotas).put("a", 100, "ever")
    taken, ahead = job(tokens=30), job(tokens=30)
    ledger.ingest([taken])
    ledger.of(Quotas).reserve([WantedQuota(ahead.id, "a", 30)])
    assert state(ledger) == (0, 60)
    ledger.cancel_all([Cancellation(new_job.id, "a", "") for new_job in (taken, ahead)])
    assert state(ledger) == (0, 0)
    assert ledger.ingest([ahead]).new == 0
    assert state(ledger) == (0, 0)


@pytest.mark.parametrize(
    ("event", "used"),
    [
        (b'{"answer":{"usage":{"prompt_tokens":7,"completion_tokens":3}}}', 10),
        (b'{"answer":{"recall":{"tier":"none"},"usage":{"prompt_tokens":7,"completion_tokens":3}}}', 10),
        (b'{"answer":{"recall":{"tier":"exact"},"usage":{"prompt_tokens":7,"completion_tokens":3}}}', 0),
        (b'{"embedding":{"usage":{"prompt_tokens":7}}}', 7),
        (b'{"kind":"evaluation"}', 0),
        (b'{"category":"poison","attempts":3}', 50),
        (b'{"category":"expired","attempts":0}', 0),
        (b'{"reason":"cancelled"}', 0),
    ],
)  # fmt: skip
def test_what_a_job_used_is_read_from_its_end(event: bytes, used: int):
    """Of one that died while it ran nobody knows: what was reserved."""
    assert quotas._used(from_json(event), 50) == used


@pytest.mark.parametrize(("answered", "used", "reserved_again"), [(False, 0, 30), (True, 10, 0)])
def test_a_replayed_job_reserves_what_it_may_still_use(
    ledger: Ledger, job: Make, answered: bool, used: int, reserved_again: int
):
    ledger.of(Quotas).put("a", 100, "ever")
    ledger.ingest([new := job(tokens=30)])
    came_to = b'{"answer":{"usage":{"prompt_tokens":7,"completion_tokens":3}}}' if answered else None
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(payload=came_to, state="held"))
    assert ledger.withhold([new.id], "no") == {new.id}
    assert state(ledger) == (used, 0)
    assert ledger.replay(DeadFilter()) == (1, 0)
    assert state(ledger) == (used, reserved_again)
    answer(ledger, new.id)
    assert state(ledger) == (10, 0)


def test_a_replayed_job_that_goes_beyond_the_quota_dies_again(ledger: Ledger, job: Make):
    ledger.of(Quotas).put("a", 100, "ever")
    ledger.ingest([new := job(tokens=30)])
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(state="held"))
    ledger.withhold([new.id], "no")
    ledger.of(Quotas).put("a", 20, "ever")
    assert ledger.replay(DeadFilter()) == (1, 0)
    assert (state(ledger), reserved(ledger), ledger.active_jobs()) == ((0, 0), set(), 0)
    (letter,) = ledger.dead(DeadFilter())
    assert (letter.job_id, letter.category) == (new.id, "quota")


@pytest.mark.parametrize("how", ["withheld", "expired", "tried"])
@pytest.mark.parametrize(
    ("came_to", "used"),
    [
        (b'{"answer":{"usage":{"prompt_tokens":7,"completion_tokens":3}}}', 10),
        (b'{"answer":{"recall":{"tier":"exact"},"usage":{"prompt_tokens":7,"completion_tokens":3}}}', 0),
        (None, 0),
    ],
    ids=["answered", "from the cache", "not answered"],
)
def test_an_answer_that_dies_before_its_next_step_is_tried_is_paid(
    ledger: Ledger, job: Make, how: str, came_to: bytes | None, used: int
):
    ledger.of(Quotas).put("a", 100, "ever")
    late, other = job(tokens=30), job(tokens=20)
    ledger.ingest([late, other])
    values = {
        "withheld": {"state": "held", "stage": "moderate"},
        "expired": {"stage": "moderate", "deadline": 1},
        "tried": {"state": "held", "stage": "moderate", "attempts": 1},
    }[how]
    with writing(ledger.engine) as tx:
        tx.execute(update(STEPS).values(payload=b'{"answer":{"usage":{"prompt_tokens":1000}}}'))
        tx.execute(update(STEPS).where(STEPS.c.job_id == late.id).values(payload=came_to, **values))
    if how == "expired":
        assert ledger.reap(3).expired == 1
    else:
        assert ledger.withhold([late.id], "no") == {late.id}
    assert state(ledger) == (30 if how == "tried" else used, 20)


@pytest.mark.parametrize(("period", "later", "new"), [("day", (0, 60), 1), ("ever", (10, 60), 0)])
def test_a_period_begins_anew(ledger: Ledger, job: Make, period: str, later: tuple[int, int], new: int):
    ledger.of(Quotas).put("a", 100, period)
    first, second = job(tokens=30), job(tokens=60)
    ledger.ingest([first, second])
    answer(ledger, first.id)
    with writing(ledger.engine) as tx:
        tx.execute(update(QUOTAS).values(began=QUOTAS.c.began - 2 * DAY_MS))
    assert state(ledger) == later
    assert ledger.ingest([job(tokens=35)]).new == new
    (quota,) = ledger.of(Quotas).find()
    assert quota.left == quota.most - quota.used - quota.reserved
    assert (quota.ends is None) == (period == "ever")


def test_bounds_of_a_period():
    month = 1_796_083_200_000  # 2026-12-01
    assert quota_rows._bounds("month", month) == (month, month + 31 * DAY_MS)
    assert quota_rows._bounds("month", month + 31 * DAY_MS - 1) == (month, month + 31 * DAY_MS)
    assert quota_rows._bounds("day", month + 5) == (month, month + DAY_MS)


def test_a_quota_is_removed_with_what_is_reserved(ledger: Ledger, job: Make):
    ledger.of(Quotas).put("a", 100, "ever")
    new = job(tokens=60)
    ledger.ingest([new])
    assert ledger.of(Quotas).remove("a")
    assert not ledger.of(Quotas).remove("a")
    answer(ledger, new.id)
    assert (ledger.of(Quotas).find(), reserved(ledger)) == ([], set())


def test_racing_bursts_through_both_doors_never_overspend(ledger: Ledger, job: Make):
    quota, each, start = 2_000, 50, threading.Barrier(64)
    ledger.of(Quotas).put("a", quota, "ever")
    seen: list[int] = []
    failed: list[BaseException] = []

    def burst(number: int) -> None:
        jobs = [job(tokens=each) for _ in range(3)]
        start.wait(60)
        try:
            wants = {one.id: [WantedQuota(one.id, "a", each)] for one in jobs}
            let_in = [
                one for one in jobs if number % 2 or not again(lambda one=one: ledger.of(Quotas).reserve(wants[one.id]))
            ]
            over = {one.id for one, _ in again(lambda: ledger.ingest(let_in)).over} if let_in else set()
            for one in let_in[:2]:
                if one.id not in over:
                    again(lambda one=one: answer(ledger, one.id))
            seen.append(again(lambda: sum(state(ledger))))
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=burst, args=(number,)) for number in range(64)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert max(seen) <= quota
    done = len(ledger.read(select(JOBS.c.id).where(JOBS.c.state == "done")))
    active = [row.id for row in ledger.read(select(JOBS.c.id).where(JOBS.c.state == "active"))]
    assert done > 0
    assert state(ledger) == (10 * done, each * len(active))
    assert reserved(ledger) == set(active)
    for job_id in active:
        answer(ledger, job_id)
    assert state(ledger) == (10 * (done + len(active)), 0)
