"""One set of each world of the bench `review-estimates`, by HTTP alone: what people do there is what quality reads."""

import numpy as np
import pytest
from bench.review_estimates import CRITERION, LOW, SEEN, SHARES, UNSEEN, Answers, World, draw, rows
from sqlalchemy import insert, select
from tests.workers.features.reviews.rows import job_id, set_rules
from tests.workers.http.served import Gateway
from tests.workers.http.test_reviews import given, signed_in

from headrace_schemas import Answer, GenerationJob, JudgeVerdict, Result, Score, Usage
from headrace_schemas.codec import encode_value
from headrace_schemas.event_types import type_of
from headrace_workers.core.ledger.accounting import LAG_MS
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.quality.assessment import by_subject, corrected_mean, mean_bounds
from headrace_workers.features.quality.store import Labels
from headrace_workers.features.reviews.tables import REVIEW_ITEMS
from headrace_workers.stats.ppi import Corrected

pytestmark = pytest.mark.integration
ITEMS = 1_600
TENANT = "a"
LOW_RULE = {"name": "low", "share": SHARES["low"], "below": {"criterion": CRITERION, "value": LOW}}
RULES = (LOW_RULE, {"name": "audit", "share": SHARES["audit"]})


def answered(number: int, of: Answers, now: int) -> dict[str, object]:
    """A job that has ended with this answer's score; the first ended last."""
    score = Score(criterion="rubric", name=CRITERION, version="v1", value=float(of.score[number]))
    used = Usage(prompt_tokens=1, completion_tokens=1)
    end = Result(
        job_id=job_id(number), tenant=TENANT, status="completed", kind="generation", accepted_at="2026-01-01T00:00:00Z",
        answer=Answer(text="yes", finish_reason="stop", model="m", quantization="int8", usage=used),
        judge=JudgeVerdict(scores=(score,)),
    )  # fmt: skip
    return {
        "id": job_id(number), "tenant": TENANT, "kind": "generation", "state": "done", "accepted_at": 100,
        "payload": encode_value(GenerationJob(model="m", prompt="?", tenant=TENANT)), "terminal": encode_value(end),
        "terminal_type": type_of(end), "ended_at": now - LAG_MS - 1_000 - number,
    }  # fmt: skip


def numbers_drawn(ledger: Ledger, of: Answers) -> list[int]:
    """Which answers the rules drew, as the accounting of ended jobs does."""
    set_rules(ledger, *RULES)
    now = ledger.now()
    with writing(ledger.engine) as tx:
        tx.execute(insert(JOBS), [answered(number, of, now) for number in range(len(of.score))])
    while ledger.account():
        pass
    drawn = {row.job_id for row in ledger.read(select(REVIEW_ITEMS.c.job_id))}
    return [number for number in range(len(of.score)) if job_id(number) in drawn]


@pytest.mark.slow
@pytest.mark.parametrize("world", [SEEN, UNSEEN], ids=["seen", "unseen"])
def test_what_people_decide_and_skip_over_http_is_estimated_as_by_numbers(alone: Gateway, world: World) -> None:
    of = draw(World(world.name, world.answered, world.of_wrong, ITEMS), np.random.default_rng(7))
    ledger = alone.services.ledger
    drawn = numbers_drawn(ledger, of)
    number_of = {job_id(number): number for number in drawn}
    with signed_in(alone) as ann:
        while (item := given(ann)) is not None:
            number, path = number_of[item["job_id"]], f"/v1/reviews/items/{item['id']}"
            if of.decides[number]:
                label = {"criterion": CRITERION, "value": float(of.right[number])}
                told = ann.post(f"{path}/decision", json={"labels": [label], "lease": item["lease"]})
            else:
                told = ann.post(f"{path}/skip", json={"lease": item["lease"]})
            assert told.status_code == 200, told.text
    (by_http,) = by_subject(*ledger.of(Labels).with_verdicts(TENANT)).values()
    (by_numbers,) = by_subject(*rows(of, drawn)).values()
    found, expected = corrected_mean(by_http), corrected_mean(by_numbers)
    assert isinstance(found, Corrected)
    assert isinstance(expected, Corrected)
    assert (found.n_human, found.reason) == (sum(of.decides[drawn]), None)
    ends = found.value, found.interval.low, found.interval.high
    assert ends == pytest.approx((expected.value, expected.interval.low, expected.interval.high))
    bounds, same = mean_bounds(by_http), mean_bounds(by_numbers)
    assert bounds is not None
    assert same is not None
    assert (bounds.low, bounds.high) == pytest.approx((same.low, same.high))
    assert bounds.holds(world.truth)
    if world is SEEN:
        assert found.interval.holds(world.truth)
