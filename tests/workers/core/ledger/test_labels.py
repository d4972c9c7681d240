import json
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import delete, func, select, update
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas import JudgeVerdict, Result, Score
from headrace_schemas.codec import encode_value
from headrace_schemas.moderation import ModerationVerdict
from headrace_schemas.review import Review
from headrace_workers.core.sql.database import writing
from headrace_workers.core.tables import JOBS
from headrace_workers.features.quality.store import (
    KEPT_MS,
    Labels,
    Verdict,
    keep_verdicts,
    known_tenants,
    labelled_subjects,
)
from headrace_workers.features.quality.tables import LABELS, VERDICTS

AGE = 60_000
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.fixture
def judged(ledger, job):
    def make(*scores, tenant="a", categories=None):
        made = job(tenant=tenant)
        ledger.ingest([made])
        receipt = Result(
            job_id=made.id, tenant=tenant, status="completed", kind="evaluation", accepted_at=NOON,
            judge=JudgeVerdict(scores=scores),
            moderation=ModerationVerdict(action="allow", categories=categories) if categories else None,
        )  # fmt: skip
        with writing(ledger.engine) as tx:
            end = {"state": "done", "ended_at": JOBS.c.accepted_at, "terminal": encode_value(receipt),
                   "terminal_type": "headrace.result.v1"}  # fmt: skip
            tx.execute(update(JOBS).where(JOBS.c.id == made.id).values(end))
        return made.id

    return make


def review(job_id, label=True, **fields):
    return Review(**{"job_id": job_id, "tenant": "a", "criterion": "right", "label": label, "who": "ann", "when": NOON,
                     **fields})  # fmt: skip


def score(value=1.0, name="right"):
    return Score(criterion="contains", name=name, version="v1", value=value)


def test_a_label_is_taken_once_and_contradictions_are_kept(ledger, judged):
    job_id = judged(score())
    assert ledger.of(Labels).add([review(job_id), review(job_id)]).new == 1
    assert ledger.of(Labels).add([review(job_id), review(job_id, False), review(job_id, who="bob")]).new == 2
    assert ledger.of(Labels).add([review(job_id, label=None, score=1.0)]).new == 0  # which says the same
    (row,) = ledger.of(Labels).counted()
    assert (row.about, row.labels, row.jobs, row.people) == ("right", 3, 1, 2)
    assert [item.value for item in ledger.of(Labels).all()].count(0.0) == 1


def test_only_jobs_that_are_known_and_the_tenant_s_own_are_labelled(ledger, judged):
    mine, theirs = judged(score()), judged(score(), tenant="b")
    unknown = "00000000-0000-5000-8000-000000000000"
    added = ledger.of(Labels).add([review(theirs), review(mine), review(unknown), review(theirs, tenant="b")])
    assert (added.new, sorted(added.refused)) == (2, [0, 2])
    assert added.refused[0] == f"tenant a has no job {theirs} that is still known"
    assert [row.tenant for row in ledger.of(Labels).counted("b")] == ["b"]
    assert len(list(ledger.of(Labels).all("a"))) == 1


def test_labels_are_counted_and_read_of_a_tenant_or_of_all(ledger, judged):
    """By what they are about; of several times and people, and in the order in which they were said."""
    one, two, theirs = judged(), judged(), judged(tenant="b")
    later, latest = NOON + timedelta(seconds=1), NOON + timedelta(seconds=2)
    ledger.of(Labels).add([
        review(one, when=latest), review(one, who="bob"), review(two, when=later),
        review(one, criterion=None, category="right", when=later), review(two, criterion="kind"),
        review(theirs, tenant="b", when=later),
    ])  # fmt: skip
    at = round(NOON.timestamp() * 1_000)
    mine = [
        ("a", "category", "right", 1, 1, 1, at + 1_000), ("a", "criterion", "kind", 1, 1, 1, at),
        ("a", "criterion", "right", 3, 2, 2, at + 2_000),
    ]  # fmt: skip
    other = ("b", "criterion", "right", 1, 1, 1, at + 1_000)
    assert [tuple(row) for row in ledger.of(Labels).counted()] == [*mine, other]
    assert [tuple(row) for row in ledger.of(Labels).counted("a")] == mine
    assert [tuple(row) for row in ledger.of(Labels).counted("b")] == [other]
    every = list(ledger.of(Labels).all())
    assert [(row.said_at, row.id) for row in every] == sorted((row.said_at, row.id) for row in every)
    assert [sum(row.tenant == tenant for row in every) for tenant in "ab"] == [5, 1]
    assert [row.job_id for row in ledger.of(Labels).all("b")] == [theirs]
    assert {row.job_id for row in ledger.of(Labels).with_verdicts("a")[0]} == {one, two}
    assert [row.job_id for row in ledger.of(Labels).with_verdicts("b")[0]] == [theirs]


def test_a_label_is_kept_as_it_was_said(ledger, judged):
    job_id, before = judged(), ledger.now()
    ledger.of(Labels).add([review(job_id, label=None, score=0.25, probability=0.5)])
    (row,) = ledger.of(Labels).all()
    assert before <= row.taken_at <= ledger.now()
    assert row._asdict() == {
        "id": row.id, "tenant": "a", "job_id": job_id, "kind": "criterion", "about": "right", "value": 0.25,
        "who": "ann", "said_at": round(NOON.timestamp() * 1_000), "probability": 0.5, "taken_at": row.taken_at,
        "item": None,
    }  # fmt: skip


def test_of_so_many_jobs_the_newest_are_read(ledger, judged):
    jobs = [judged(score(value)) for value in (0.25, 0.5, 0.75)]
    dead = judged(score())
    judged(score(), tenant="b")
    ledger.of(Labels).add([review(jobs[0])])
    with writing(ledger.engine) as tx:
        for place, job_id in enumerate((*jobs, dead)):
            tx.execute(update(JOBS).where(JOBS.c.id == job_id).values(ended_at=1_000 + place))
        tx.execute(update(JOBS).where(JOBS.c.id == dead).values(terminal_type="headrace.dead.v1"))
        tx.execute(update(JOBS).where(JOBS.c.tenant == "b").values(ended_at=2_000))
    assert [row.job_id for row in ledger.of(Labels).with_verdicts("a", 2)[1]] == [jobs[2], jobs[1]]
    assert [row.job_id for row in ledger.of(Labels).with_verdicts("a")[1]] == jobs[::-1]


def test_the_verdicts_of_all_jobs_stand_beside_labels_of_a_few(ledger, judged):
    first, second = judged(score(0.75), score(0.5, "other")), judged(score(0.25))
    silent = judged(Score(criterion="contains", name="right", version="v1", not_judged="failed", reason="not judged"))
    drawn = judged(Score(criterion="contains", name="right", version="v1", value=0.5, probability=0.25))
    judged(score(), score())
    judged(score(), tenant="b")
    flagged = judged(categories={"profanity": True, "secrets": False})
    ledger.of(Labels).add([review(first), review(flagged, criterion=None, category="profanity")])
    rows, verdicts, _ = ledger.of(Labels).with_verdicts("a")
    assert len(rows) == 2
    assert sorted(verdicts) == sorted(
        [
            Verdict(first, "criterion", "right", "v1", 0.75),
            Verdict(second, "criterion", "right", "v1", 0.25),
            Verdict(silent, "criterion", "right", "v1", None, None, "failed"),
            Verdict(drawn, "criterion", "right", "v1", 0.5, 0.25),
            Verdict(flagged, "category", "profanity", None, 1.0),
        ]
    )
    assert ledger.of(Labels).with_verdicts("b") == ([], [], [])


def test_what_is_labelled_outlives_the_jobs(ledger, judged):
    first, second = judged(score(0.75)), judged(score(0.25))
    ledger.of(Labels).add([review(first)])
    before = ledger.of(Labels).with_verdicts("a")[1]
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).values(ended_at=JOBS.c.ended_at - 2 * AGE))
    ledger.prune(AGE)
    assert ledger.read(select(JOBS.c.id)) == []
    assert sorted(ledger.of(Labels).with_verdicts("a")[1]) == sorted(before)
    assert ledger.of(Labels).add([review(second), review(second, tenant="b")]).new == 1


def test_verdicts_are_kept_of_the_jobs_that_are_named(ledger, judged):
    one = judged(Score(criterion="contains", name="right", version="v1", value=0.5, probability=0.25))
    other, theirs = judged(score()), judged(score(), tenant="b")
    ledger.of(Labels).add([review(one), review(theirs, tenant="b")])
    with writing(ledger.engine) as tx:
        for _ in range(2):
            keep_verdicts(tx, [one])
    (row,) = ledger.read(select(VERDICTS))
    ((ended_at,),) = ledger.read(select(JOBS.c.ended_at).where(JOBS.c.id == one))
    assert row._asdict() == {
        "job_id": one, "tenant": "a", "kind": "criterion", "about": "right", "version": "v1", "value": 0.5,
        "probability": 0.25, "judged_at": ended_at,
    }  # fmt: skip
    with writing(ledger.engine) as tx:
        assert known_tenants(tx, [one, other, theirs, "nobody"]) == {one: "a", other: "a", theirs: "b"}
        assert labelled_subjects(tx, ["a"]) == {"a": {("criterion", "right")}}


def test_however_much_is_said_of_many_jobs_all_of_it_outlives_them(ledger, judged):
    names = [f"c{n}" for n in range(16)]
    categories = [f"g{n}" for n in range(10)]
    first = judged(*(score(name=name) for name in names), categories=dict.fromkeys(categories, True))
    labels = [review(first, criterion=name) for name in names]
    labels += [review(first, criterion=None, category=name) for name in categories]
    ledger.of(Labels).add(labels)
    (row,) = ledger.read(select(JOBS))
    with writing(ledger.engine) as tx:
        tx.execute(JOBS.insert(), [{**row._mapping, "id": f"{n:036d}"} for n in range(499)])
        tx.execute(update(JOBS).values(ended_at=JOBS.c.ended_at - 2 * AGE))
    ledger.prune(AGE)
    assert ledger.read(select(func.count()).select_from(JOBS))[0][0] == 0
    assert ledger.read(select(func.count()).select_from(VERDICTS))[0][0] == 500 * 26


def test_of_what_nobody_labels_nothing_is_kept(ledger, judged):
    labelled_subjects = judged(score(), score(0.5, "other"))
    theirs = judged(score(), tenant="b")
    ledger.of(Labels).add([review(labelled_subjects), review(theirs, tenant="b", criterion="other")])
    with writing(ledger.engine) as tx:
        tx.execute(update(JOBS).values(ended_at=JOBS.c.ended_at - 2 * AGE))
    ledger.prune(AGE)
    assert [(row.tenant, row.about) for row in ledger.read(select(VERDICTS))] == [("a", "right")]


def test_verdicts_are_forgotten_at_last_unless_they_are_labelled(ledger, judged):
    labelled_subjects, other = judged(score(), score(0.5, "other")), judged(score())
    ledger.of(Labels).add([review(labelled_subjects), review(other, criterion="other")])
    for _ in range(2):
        ledger.prune(-AGE)
        assert len(ledger.read(select(VERDICTS))) == 3
    with writing(ledger.engine) as tx:
        tx.execute(update(VERDICTS).values(judged_at=VERDICTS.c.judged_at - 2 * KEPT_MS))
    ledger.prune(AGE)
    assert [(row.job_id, row.about) for row in ledger.read(select(VERDICTS))] == [(labelled_subjects, "right")]
    assert len(ledger.read(select(LABELS))) == 2


def test_a_label_keeps_the_verdict_that_it_is_about_and_no_other(ledger, judged):
    both = judged(score(1.0, "hate"), categories={"hate": True})
    theirs = judged(score(1.0, "hate"), tenant="b")
    ledger.of(Labels).add([review(both, criterion=None, category="hate"), review(theirs, tenant="b", criterion="hate")])
    ledger.of(Labels).add([review(both, criterion="hate")])
    ledger.prune(-AGE)
    with writing(ledger.engine) as tx:
        tx.execute(update(VERDICTS).values(judged_at=VERDICTS.c.judged_at - 2 * KEPT_MS))
        tx.execute(delete(LABELS).where(LABELS.c.kind == "criterion"))
        tx.execute(
            update(VERDICTS).where(VERDICTS.c.tenant == "b").values(judged_at=VERDICTS.c.judged_at + 2 * KEPT_MS)
        )
    ledger.prune(AGE)
    assert sorted((row.tenant, row.kind) for row in ledger.read(select(VERDICTS))) == [
        ("a", "category"),
        ("b", "criterion"),
    ]


@pytest.mark.parametrize(
    "fields",
    [{"criterion": None}, {"category": "profanity"}, {"label": None}, {"score": 0.5}, {"probability": 0}, {"who": ""}],
)
def test_a_label_says_one_thing_of_one_thing(fields):
    said = json.loads(review("00000000-0000-5000-8000-000000000000").model_dump_json()) | fields
    with pytest.raises(ValueError, match=r"label|probability|who"):
        Review.model_validate_json(json.dumps(said), strict=True)
