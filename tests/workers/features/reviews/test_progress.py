from typing import Any

import pytest
from sqlalchemy import insert
from tests.workers.features.reviews.rows import end, job_id, receipt, set_rules, write

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.sql.database import reading
from headrace_workers.features.quality.assessment import by_subject
from headrace_workers.features.quality.store import KEPT_MS, Labels, Sampled
from headrace_workers.features.quality.tables import LABELS
from headrace_workers.features.reviews.progress import Progress, progress
from headrace_workers.features.reviews.tables import (
    REVIEW_ASSIGNMENTS,
    REVIEW_COUNTS,
    REVIEW_DECISIONS,
    REVIEW_ITEMS,
)

DAY_MS = 86_400_000


def item(ledger: Ledger, number: int, rule: str = "audit", state: str = "open", **fields: Any) -> str:
    name = f"item-{number}"
    known = {
        "id": name, "tenant": "a", "job_id": job_id(number), "rule": rule, "ordinal": 0, "replays": 0, "rank": number,
        "probability": 0.5, "wanted": 1, "state": state, "made_at": ledger.now(),
    }  # fmt: skip
    write(ledger, insert(REVIEW_ITEMS).values(**known | fields))
    return name


def assigned(ledger: Ledger, name: str, who: str, state: str, at: int | None = None) -> None:
    at = ledger.now() if at is None else at
    row = {"item_id": name, "who": who, "tenant": "a", "lease": 1, "state": state, "until": at, "at": at}
    write(ledger, insert(REVIEW_ASSIGNMENTS).values(row))
    if state == "decided":
        decision = {
            "item_id": name, "who": who, "revision": 1, "tenant": "a", "job_id": "j", "lease": 1, "key_id": "",
            "action": "label", "decision": "{}", "decided_at": at,
        }  # fmt: skip
        write(ledger, insert(REVIEW_DECISIONS).values(decision))


def label(ledger: Ledger, number: int, value: float = 1.0, who: str = "ann", name: str | None = "", **fields: Any):
    at = ledger.now()
    known = {
        "id": f"{number}-{who}-{fields.get('about')}", "tenant": "a", "job_id": job_id(number), "kind": "criterion",
        "about": "helpful", "value": value, "who": who, "said_at": at, "probability": 0.5, "taken_at": at,
        "item": f"item-{number}" if name == "" else name,
    }  # fmt: skip
    write(ledger, insert(LABELS).values(**known | fields))


def counted(ledger: Ledger, rule: str, seen: int, drawn: int, overflow: int = 0, days_ago: int = 0) -> None:
    day = ledger.now() // DAY_MS - days_ago
    row = {"tenant": "a", "rule": rule, "day": day, "seen": seen, "drawn": drawn, "overflow": overflow}
    write(ledger, insert(REVIEW_COUNTS).values(row))


def told(ledger: Ledger, tenant: str = "a") -> Progress:
    with reading(ledger.engine) as tx:
        return progress(tx, tenant)


def samples_of(ledger: Ledger, most: int = 100) -> list[Sampled]:
    label(ledger, 999, name=None)
    return ledger.of(Labels).with_verdicts("a", most)[2]


def test_quality_is_told_what_was_drawn_and_what_became_of_it(ledger: Ledger) -> None:
    names = [item(ledger, number, state=state) for number, state in enumerate(("open", "open", "done", "gone"))]
    assigned(ledger, names[1], "ann", "skipped")
    item(ledger, 7, rule="held", probability=1.0)
    item(ledger, 8, tenant="b")
    item(ledger, 9, made_at=ledger.now() - KEPT_MS - 1_000)
    assert sorted((sample.item, sample.rule, sample.probability, sample.state) for sample in samples_of(ledger)) == [
        ("item-0", "audit", 0.5, "open"),
        ("item-1", "audit", 0.5, "skipped"),
        ("item-2", "audit", 0.5, "decided otherwise"),
        ("item-3", "audit", 0.5, "gone"),
        ("item-7", "held", 1.0, "open"),
    ]


def test_of_so_many_draws_the_newest_are_told(ledger: Ledger) -> None:
    for number in range(3):
        item(ledger, number, made_at=ledger.now() - number * 1_000)
    assert [sample.item for sample in samples_of(ledger, most=2)] == ["item-0", "item-1"]


def test_a_draw_counts_with_the_share_of_its_day_that_found_room(ledger: Ledger) -> None:
    item(ledger, 1)
    item(ledger, 2, made_at=ledger.now() - DAY_MS)
    item(ledger, 3, rule="low")
    counted(ledger, "audit", seen=100, drawn=40, overflow=30)
    counted(ledger, "low", seen=100, drawn=40)
    counted(ledger, "audit", seen=100, drawn=40, overflow=20, days_ago=1)
    probabilities = {sample.item: sample.probability for sample in samples_of(ledger)}
    assert probabilities == pytest.approx({"item-1": 0.125, "item-2": 0.25, "item-3": 0.5})


def test_labels_of_the_queue_are_weighed_when_quality_reads_them(ledger: Ledger) -> None:
    """Of two jobs that were drawn with 0.5 one has a label: as if it had been drawn with 0.25."""
    for number in (1, 2):
        end(ledger, receipt(job_id(number), {"helpful": 0.4}))
        item(ledger, number, state="done" if number == 1 else "open")
    label(ledger, 1)
    (labelled,) = by_subject(*ledger.of(Labels).with_verdicts("a")).values()
    assert labelled.queued is not None
    assert labelled.queued.labelled == pytest.approx([0.25, 0.25])
    assert labelled.queued.missing == {"open": 1}


def test_labels_of_answers_that_people_sent_count_in_no_estimate(ledger: Ledger) -> None:
    """Nobody drew them: they may be the worst, and the others would be taken for as bad."""
    for number in range(1, 9):
        end(ledger, receipt(job_id(number), {"helpful": 0.4}))
    item(ledger, 1, state="done", decided=1)
    label(ledger, 1)
    for number in range(2, 9):
        item(ledger, number, rule="manual", probability=0.0, state="open" if number == 3 else "done")
    label(ledger, 2, value=0.0, probability=None)
    (labelled,) = by_subject(*ledger.of(Labels).with_verdicts("a")).values()
    assert labelled.queued is not None
    assert (labelled.value.tolist(), labelled.queued.missing, labelled.queued.silent) == ([1.0], {}, {})
    assert sorted(labelled.queued.labelled) == pytest.approx([*[0.0] * 7, 0.5])
    progress = told(ledger)
    assert {rule.rule: rule.open for rule in progress.rules} == {"audit": 0, "manual": 1}
    assert not any("manual" in line or "without a probability" in line for line in progress.words)
    assert any(line.startswith("helpful: 1 of ") for line in progress.words)


def test_each_rule_says_what_became_of_its_draws(ledger: Ledger) -> None:
    for number, state in enumerate(("open", "open", "done", "gone")):
        item(ledger, number, state=state, decided=number)
    assigned(ledger, "item-1", "ann", "skipped")
    item(ledger, 5, rule="held", state="done")
    counted(ledger, "audit", seen=70, drawn=4, days_ago=1)
    counted(ledger, "audit", seen=30, drawn=3, overflow=2)
    counted(ledger, "audit", seen=1_000, drawn=100, days_ago=91)
    item(ledger, 6, tenant="b")
    held, audit = (rule.model_dump() for rule in told(ledger).rules)
    assert audit == {
        "rule": "audit", "seen": 100, "drawn": 7, "decided": 6, "open": 2, "skipped": 1, "done": 1, "gone": 1,
        "overflow": 2,
    }  # fmt: skip
    assert (held["rule"], held["seen"], held["drawn"], held["done"]) == ("held", None, 1, 1)


def test_each_person_says_how_much_they_did_and_how_fast(ledger: Ledger) -> None:
    """A break of an hour between two decisions is no time of a decision."""
    now = ledger.now()
    for number, seconds in enumerate((0, 10, 30, 7_000, 7_030)):
        assigned(ledger, item(ledger, number), "ann", "decided", now - 10_000_000 + seconds * 1_000)
    assigned(ledger, "item-0", "bob", "skipped")
    assigned(ledger, "item-1", "cem", "leased")
    ann, bob = told(ledger).people
    assert (ann.who, ann.decided, ann.skipped, ann.median_seconds) == ("ann", 5, 0, 20.0)
    assert (bob.who, bob.decided, bob.skipped, bob.median_seconds) == ("bob", 0, 1, None)


def test_agreement_is_that_among_people_by_rule_and_criterion(ledger: Ledger) -> None:
    for number in range(4):
        item(ledger, number, rule="low" if number == 3 else "audit")
        label(ledger, number, float(number == 0))
        label(ledger, number, float(number == 0), who="bob")
    label(ledger, 1, who="cem", about="polite")
    found = {(agreement.rule, agreement.criterion): agreement for agreement in told(ledger).agreement}
    assert (found["audit", "helpful"].items, found["audit", "helpful"].alpha) == (3, 1.0)
    assert found["low", "helpful"].alpha is None
    assert "all labels are the same" in (found["low", "helpful"].reason or "")
    assert (found["audit", "polite"].items, found["audit", "polite"].reason) == (0, "no item has labels of two people")


def test_words_say_how_many_labels_are_missing_and_where_to_decide_more(ledger: Ledger) -> None:
    """In the queue of a rule that takes every answer, if it has open items."""
    set_rules(ledger, {"name": "low", "below": {"criterion": "helpful", "value": 0.5}}, {"name": "audit", "share": 0.5})
    for number in range(3):
        item(ledger, number, rule="low")
    item(ledger, 3)
    assert told(ledger).words == [
        "Nobody has labelled anything: an estimate needs 100 labels of a criterion in the queue audit"
    ]
    for number in (2, 3):
        label(ledger, number)
        label(ledger, number, who="bob")
    assert told(ledger).words == [
        "helpful: 2 of 100 labels that an estimate needs; 98 more decisions in the queue audit"
    ]
    assert told(ledger, "b").words == []


def test_words_name_what_no_number_of_decisions_mends(ledger: Ledger) -> None:
    set_rules(ledger, {"name": "low", "below": {"criterion": "helpful", "value": 0.5}})
    for number in range(100):
        item(ledger, number, rule="low", state="done", decided=1)
        label(ledger, number)
    for number in range(100, 106):
        item(ledger, number, rule="odd", state="gone")
    label(ledger, 200, name=None, probability=None)
    counted(ledger, "low", seen=500, drawn=130, overflow=30)
    assert told(ledger).words == [
        "helpful: about 0 of 10 labels that say no, which an estimate with verdicts needs; until then it is of labels "
        "alone",
        "helpful: 1 imported label without a probability: there is no estimate from these and the queue's together. "
        "Give the probability, or remove them (`headrace review unlabel`)",
        "helpful: no answer has labels of two people, so that their agreement is unknown; set people = 2 for a rule",
        "low: the queue had no room for 30 drawn answers; the others stand for them",
        "odd: nobody has labelled any of 6 drawn answers; there is no estimate until somebody does",
        "odd: 0 skipped and 6 gone; answers of this rule with about the same score stand for them",
        "No rule takes every answer: estimates are of the answers that meet a rule's condition. Add a rule without a "
        "condition, such as an audit with share = 0.05",
    ]
