import json

import pytest
from sqlalchemy import delete, func, select, update
from tests.workers.core.ledger.rows import entry, serve, states, write
from tests.workers.features.reviews.review_rows import (
    ANN,
    ASKED,
    BOB,
    EVE,
    FOUND,
    LEASE,
    RANDOM,
    SAID,
    answer,
    ended,
    good,
    held,
    item,
)

from headrace_schemas import GenerationJob, Output
from headrace_schemas.codec import decode_value
from headrace_schemas.errors import InvalidRecord, Unavailable
from headrace_schemas.output_format import JsonObjectFormat
from headrace_schemas.review import MANUAL
from headrace_schemas.tool import ToolCall
from headrace_schemas.topics import Topic
from headrace_workers.core.ledger.cancellation import Cancellation
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.task import unpack
from headrace_workers.core.tables import JOBS, STEPS
from headrace_workers.features.quality.tables import LABELS
from headrace_workers.features.reviews import store
from headrace_workers.features.reviews.decision import Conflict, Decision, NoSuchItem, Person
from headrace_workers.features.reviews.hooks import ReviewQueue
from headrace_workers.features.reviews.rules import BEHIND_HELD
from headrace_workers.features.reviews.store import Reviews
from headrace_workers.features.reviews.tables import (
    REVIEW_ASSIGNMENTS,
    REVIEW_DECISIONS,
    REVIEW_ITEMS,
    REVIEW_RULES,
)


@pytest.fixture
def reviews(ledger):
    return ledger.of(Reviews)


def given(reviews, person, **which):
    found = reviews.next(person, LEASE, **which)
    return (None, None) if found is None else (found.row.id, found.lease)


def lease_ended(ledger, item_id):
    write(ledger, update(REVIEW_ASSIGNMENTS).where(REVIEW_ASSIGNMENTS.c.item_id == item_id).values(until=1))


def row(ledger, item_id):
    (found,) = ledger.read(select(REVIEW_ITEMS).where(REVIEW_ITEMS.c.id == item_id))
    return found


def labels(ledger):
    """All labels: who, about what, value, probability, item."""
    c = LABELS.c
    return sorted(tuple(each) for each in ledger.read(select(c.who, c.about, c.value, c.probability, c.item)))


def told(ledger):
    records = (each.record for each in ledger.outbox(100) if each.record.topic is Topic.DECIDED)
    return [decode_value("headrace.review.decided.v1", record.value) for record in records]


def count(ledger, table):
    return ledger.read(select(func.count()).select_from(table))[0][0]


def test_held_items_come_first_and_the_longest_held_before_the_others(ledger, reviews):
    _, first = ended(ledger, rank=RANDOM)
    _, last = ended(ledger, rank=RANDOM + 5)
    _, waited = held(ledger, rank=40)
    _, waits = held(ledger, rank=60)
    order = [given(reviews, Person("a", f"p{n}"))[0] for n in range(5)]
    assert order == [waited, waits, first, last, None]


def test_a_person_is_given_their_own_live_lease_again(ledger, reviews):
    ended(ledger)
    ended(ledger)
    first = given(reviews, ANN)
    assert given(reviews, ANN) == first
    assert given(reviews, BOB)[0] not in (None, first[0])


def test_an_ended_answer_tells_what_machines_said_only_after_the_decision(ledger, reviews):
    _, item_id = ended(ledger, verdict=FOUND.model_copy(update={"action": "redact"}))
    lease = reviews.next(ANN, LEASE).lease
    before = reviews.item(ANN, item_id).shown
    assert (before.verdict, before.scores, before.categories) == (None, (), ())
    reviews.decide(ANN, item_id, good(lease))
    after = reviews.item(ANN, item_id).shown
    assert after.verdict.categories == {"personal_data": True}
    assert [score.name for score in after.scores] == ["helpful"]


def test_a_person_without_the_scope_for_texts_is_given_no_held_item(ledger, reviews):
    held(ledger)
    _, mine = ended(ledger)
    assert given(reviews, ANN, held=False)[0] == mine
    held(ledger, rank=1)
    assert given(reviews, BOB, held=False) == (None, None)


def test_one_queue_alone_is_asked_for_by_its_rule(ledger, reviews):
    ended(ledger)
    _, low = ended(ledger, rule="low", rank=RANDOM + 9)
    assert given(reviews, ANN, rule="low")[0] == low
    assert given(reviews, ANN, rule="no such") == (None, None)


def test_an_item_is_given_to_as_many_as_are_wanted_and_once_to_each(ledger, reviews):
    _, one = ended(ledger, wanted=2)
    assert given(reviews, ANN)[0] == given(reviews, BOB)[0] == one
    assert given(reviews, EVE) == (None, None)
    reviews.decide(ANN, one, good(given(reviews, ANN)[1]))
    assert given(reviews, ANN) == (None, None)
    assert given(reviews, EVE) == (None, None)
    assert (row(ledger, one).state, row(ledger, one).decided) == ("open", 1)


def test_a_skipped_item_comes_to_others_and_never_back(ledger, reviews):
    _, one = ended(ledger)
    _, lease = given(reviews, ANN)
    for _ in range(2):  # the second is a repetition
        reviews.skip(ANN, one, lease)
    assert given(reviews, ANN) == (None, None)
    assert given(reviews, BOB)[0] == one
    with pytest.raises(Conflict, match="not yours"):
        reviews.decide(ANN, one, good(lease))
    with pytest.raises(Conflict, match="not yours"):
        reviews.skip(BOB, one, lease + 1)


def test_what_is_not_read_of_a_persons_assignments_is_asked_for_one_by_one(ledger, reviews, monkeypatch):
    monkeypatch.setattr(store, "MOST_READ", 1)
    monkeypatch.setattr(store, "LOOKED_AT", 1)
    skipped = [ended(ledger, rank=RANDOM + n)[1] for n in range(3)]
    _, last = ended(ledger, rank=RANDOM + 9)
    for one in skipped:
        assert given(reviews, ANN)[0] == one
        reviews.skip(ANN, one, given(reviews, ANN)[1])
    assert given(reviews, ANN)[0] == last


def test_an_item_whose_lease_ended_goes_to_another_and_the_late_decision_is_a_conflict(ledger, reviews):
    _, one = ended(ledger)
    _, lease = given(reviews, ANN)
    lease_ended(ledger, one)
    assert given(reviews, BOB)[0] == one
    with pytest.raises(Conflict, match="somebody else was given the item"):
        reviews.decide(ANN, one, good(lease))
    reviews.decide(BOB, one, good(given(reviews, BOB)[1]))
    with pytest.raises(Conflict, match="have decided"):
        reviews.decide(ANN, one, good(lease))
    assert labels(ledger) == [("bob", "good", 1.0, 0.25, one)]


def test_a_late_decision_is_taken_where_nobody_else_has_the_item(ledger, reviews):
    _, one = ended(ledger)
    _, lease = given(reviews, ANN)
    lease_ended(ledger, one)
    assert reviews.decide(ANN, one, good(lease)).item.state == "done"


def test_the_number_of_an_earlier_lease_is_refused(ledger, reviews):
    _, one = ended(ledger)
    _, old = given(reviews, ANN)
    lease_ended(ledger, one)
    _, new = given(reviews, ANN)
    with pytest.raises(Conflict, match="under this lease"):
        reviews.decide(ANN, one, good(old))
    reviews.decide(ANN, one, good(new))


def test_a_decision_writes_its_labels_its_event_and_what_training_needs_at_once(ledger, reviews):
    job_id, one = ended(ledger)
    _, lease = given(reviews, ANN)
    said = good(lease, 0.0, note="wrong address")
    done = reviews.decide(ANN, one, said)
    assert (done.item.state, done.item.decided, done.wakes) == ("done", 1, False)
    assert labels(ledger) == [("ann", "good", 0.0, 0.25, one)]
    (event,) = told(ledger)
    assert (event.item, event.job_id, event.rule, event.action, event.who, event.revision, event.note) == (
        one, job_id, "audit", "label", "ann", 1, "wrong address",
    )  # fmt: skip
    (kept,) = ledger.read(select(REVIEW_DECISIONS))
    assert (kept.key_id, kept.lease, kept.action) == ("key of ann", lease, "label")
    assert json.loads(kept.example) == {
        "messages": [{"role": "user", "content": "How do I reach you?"}], "answer": SAID, "model": "m",
    }  # fmt: skip


def test_decisions_of_a_tenant_that_forbids_training_keep_no_text(ledger, reviews):
    rules = json.dumps({"tenants": {"a": {"training": False}}})
    write(ledger, REVIEW_RULES.insert().values(scope="", digest="d", rules=rules, set_at=1))
    _, one = ended(ledger)
    reviews.decide(ANN, one, good(given(reviews, ANN)[1]))
    (kept,) = ledger.read(select(REVIEW_DECISIONS))
    assert kept.example is None


def test_the_same_decision_again_changes_nothing_and_another_is_a_conflict(ledger, reviews):
    _, one = ended(ledger)
    _, lease = given(reviews, ANN)
    first = reviews.decide(ANN, one, good(lease))
    again = reviews.decide(ANN, one, good(lease))
    assert again.recorded == first.recorded
    with pytest.raises(Conflict, match="your next decision about this item has the revision 2"):
        reviews.decide(ANN, one, good(lease, 0.0))
    assert (count(ledger, REVIEW_DECISIONS), len(told(ledger)), row(ledger, one).decided) == (1, 1, 1)


def test_a_revision_needs_no_lease_and_its_labels_take_the_place_of_the_earlier_ones(ledger, reviews):
    _, one = ended(ledger)
    reviews.decide(ANN, one, good(given(reviews, ANN)[1]))
    assert reviews.decide(ANN, one, good(None, 0.5, revision=2)).item.decided == 1
    assert labels(ledger) == [("ann", "good", 0.5, 0.25, one)]
    with pytest.raises(Conflict, match="the revision 3"):
        reviews.decide(ANN, one, good(None, 0.5, revision=4))
    assert [(each.revision, each.undone) for each in told(ledger)] == [(1, False), (2, False)]


def test_what_was_taken_back_is_open_again_and_may_be_decided_anew(ledger, reviews):
    _, one = ended(ledger)
    reviews.decide(ANN, one, good(given(reviews, ANN)[1]))
    for _ in range(2):  # the second is a repetition
        assert reviews.undo(ANN, one).item.state == "open"
    assert (labels(ledger), row(ledger, one).decided) == ([], 0)
    assert [(each.revision, each.undone) for each in told(ledger)] == [(1, False), (2, True)]
    _, lease = given(reviews, ANN)
    assert reviews.decide(ANN, one, good(lease, revision=3)).item.state == "done"


def test_what_was_taken_back_may_go_to_another(ledger, reviews):
    _, one = ended(ledger)
    reviews.decide(ANN, one, good(given(reviews, ANN)[1]))
    reviews.undo(ANN, one)
    assert given(reviews, BOB)[0] == one
    assert given(reviews, ANN) == (None, None)
    with pytest.raises(Conflict, match="have not decided"):
        reviews.undo(BOB, one)


def test_people_go_back_over_what_they_decided(ledger, reviews):
    mine = []
    for n in range(3):
        _, one = ended(ledger, rank=RANDOM + n)
        reviews.decide(ANN, one, good(given(reviews, ANN)[1]))
        write(ledger, update(REVIEW_ASSIGNMENTS).where(REVIEW_ASSIGNMENTS.c.item_id == one).values(at=n))
        mine.append(one)
    reviews.decide(ANN, mine[0], good(revision=2, value=0.0))
    reviews.undo(ANN, mine[1])
    found = reviews.mine(ANN)
    assert [(each.id, said.revision) for each, said in found] == [(mine[2], 1), (mine[0], 2)]
    assert [each.id for each, _ in reviews.mine(ANN, after=mine[2])] == [mine[0]]
    assert reviews.mine(BOB) == []


def test_items_are_listed_by_state_and_rule_the_newest_first(ledger, reviews):
    _, first = ended(ledger, made_at=1)
    _, second = ended(ledger, made_at=2, rule="low")
    _, third = ended(ledger, made_at=3)
    ids = lambda **which: [review.id for review in reviews.items("a", **which)]  # noqa: E731
    assert ids() == [third, second, first]
    assert (ids(rule="low"), ids(limit=1), ids(after=second)) == ([second], [third], [first])
    assert reviews.items("b") == []
    with pytest.raises(InvalidRecord, match="after"):
        ids(after="no such")


def test_another_tenants_item_is_not_there(ledger, reviews):
    _, one = ended(ledger)
    stranger = Person("b", "ann")
    assert given(reviews, stranger) == (None, None)
    for act in (
        lambda: reviews.item(stranger, one),
        lambda: reviews.decide(stranger, one, good(1)),
        lambda: reviews.skip(stranger, one, 1),
        lambda: reviews.undo(stranger, one),
        lambda: reviews.want("b", one, 2),
    ):
        with pytest.raises(NoSuchItem):
            act()


def test_an_item_is_done_as_soon_as_enough_have_decided_and_open_again_when_more_are_wanted(ledger, reviews):
    _, one = ended(ledger)
    reviews.decide(ANN, one, good(given(reviews, ANN)[1]))
    assert given(reviews, BOB) == (None, None)
    assert reviews.want("a", one, 3).state == "open"
    assert given(reviews, BOB)[0] == given(reviews, EVE)[0] == one
    assert reviews.want("a", one, 1).state == "done"
    with pytest.raises(Conflict, match="have decided"):
        reviews.decide(BOB, one, good(lease_of(ledger, one, "bob")))
    assert row(ledger, one).decided == 1
    for wrong in (0, 11):
        with pytest.raises(InvalidRecord, match="1 to 10"):
            reviews.want("a", one, wrong)


def lease_of(ledger, item_id, who):
    c = REVIEW_ASSIGNMENTS.c
    return ledger.read(select(c.lease).where(c.item_id == item_id, c.who == who))[0][0]


def test_of_two_with_live_leases_the_first_decides_where_fewer_are_wanted_now(ledger, reviews):
    _, one = ended(ledger, wanted=2)
    (_, ann), (_, bob) = given(reviews, ANN), given(reviews, BOB)
    reviews.want("a", one, 1)
    assert reviews.decide(BOB, one, good(bob)).item.state == "done"
    with pytest.raises(Conflict, match="have decided"):
        reviews.decide(ANN, one, good(ann))


def test_one_person_decides_about_a_held_item(ledger, reviews):
    _, one = held(ledger)
    with pytest.raises(Conflict, match="one person"):
        reviews.want("a", one, 2)


def test_what_is_released_goes_on_and_is_not_taken_back(ledger, reviews):
    job_id, one = held(ledger)
    done = reviews.decide(ANN, one, Decision(action="release", lease=given(reviews, ANN)[1]))
    assert (done.item.state, done.wakes) == ("done", True)
    (step,) = ledger.read(select(STEPS).where(STEPS.c.job_id == job_id))
    assert (step.state, step.woken_by) == ("ready", "released")
    with pytest.raises(Conflict, match="cannot be taken back"):
        reviews.undo(ANN, one)
    with pytest.raises(Conflict, match="cannot be revised"):
        reviews.decide(ANN, one, Decision(action="withhold", revision=2))
    assert told(ledger)[0].stage == "moderate"


def test_what_is_withheld_ends_with_the_note(ledger, reviews):
    job_id, one = held(ledger)
    reviews.decide(ANN, one, Decision(action="withhold", note="names a customer", lease=given(reviews, ANN)[1]))
    (end,) = ledger.read(select(JOBS.c.state, JOBS.c.terminal).where(JOBS.c.id == job_id))
    assert end.state == "dead"
    assert json.loads(end.terminal)["reason"] == "withheld: names a customer"


def test_a_corrected_text_goes_on_with_the_held_step(ledger, reviews):
    job_id, one = held(ledger, known={"verdict": {"action": "review"}})
    before = ledger.read(select(STEPS.c.read_bytes, STEPS.c.context).where(STEPS.c.job_id == job_id))[0]
    said = Decision(action="correct", corrected="Write to us.", lease=given(reviews, ANN)[1])
    reviews.decide(ANN, one, said)
    (step,) = ledger.read(select(STEPS).where(STEPS.c.job_id == job_id))
    assert (step.state, unpack(step.context)[0]) == ("ready", {"held": {"corrected": "Write to us."}})
    assert step.read_bytes - before.read_bytes == len(step.context) - len(before.context)
    (kept,) = ledger.read(select(REVIEW_DECISIONS.c.example))
    assert json.loads(kept.example)["corrected"] == "Write to us."
    assert told(ledger)[0].corrected == "Write to us."


@pytest.mark.parametrize(("action", "fits"), [("release", True), ("withhold", True), ("correct", False)])
def test_a_held_prompt_is_released_or_withheld_and_not_corrected(ledger, reviews, action, fits):
    _, one = held(ledger, event=ASKED, stage="screen")
    corrected = "better" if action == "correct" else None
    said = Decision(action=action, corrected=corrected, lease=given(reviews, ANN)[1])
    if fits:
        assert reviews.decide(ANN, one, said).item.state == "done"
        return
    with pytest.raises(InvalidRecord, match="release or withhold the job"):
        reviews.decide(ANN, one, said)
    assert (row(ledger, one).state, count(ledger, REVIEW_DECISIONS)) == ("open", 0)


def test_a_correction_has_the_format_that_the_job_asks_for(ledger, reviews):
    asked = GenerationJob(model="m", prompt="?", tenant="a", output=JsonObjectFormat())
    job_id, one = held(ledger, asked)
    _, lease = given(reviews, ANN)
    with pytest.raises(InvalidRecord, match="corrected: the answer is no JSON document"):
        reviews.decide(ANN, one, Decision(action="correct", corrected="no", lease=lease))
    reviews.decide(ANN, one, Decision(action="correct", corrected="{}", lease=lease))
    assert ledger.read(select(STEPS.c.state).where(STEPS.c.job_id == job_id))[0][0] == "ready"


def test_an_answer_that_calls_tools_is_not_corrected(ledger, reviews):
    call = ToolCall(id="c1", name="find", arguments="{}")
    event = Output(job_id="x" * 36, tenant="a", answer=answer(tool_calls=(call,)))
    _, one = held(ledger, event=event)
    with pytest.raises(InvalidRecord, match="calls tools"):
        reviews.decide(ANN, one, Decision(action="correct", corrected="no", lease=given(reviews, ANN)[1]))


def test_an_answer_that_ended_gets_labels_and_nothing_else(ledger, reviews):
    _, one = ended(ledger)
    with pytest.raises(Conflict, match="the job has ended"):
        reviews.decide(ANN, one, Decision(action="release", lease=given(reviews, ANN)[1]))
    held(ledger, rank=1)
    other, lease = given(reviews, BOB)
    with pytest.raises(InvalidRecord, match="a held job is released, withheld or corrected"):
        reviews.decide(BOB, other, good(lease))


def test_cached_copies_of_a_wrong_answer_are_withdrawn(ledger, reviews):
    job_id, one = ended(ledger)
    for number, maker in ((1, job_id), (2, "x"), (3, "y")):
        entry(ledger, number, job_id=maker)
    serve(ledger, 2, job_id)
    reviews.decide(ANN, one, good(given(reviews, ANN)[1], 0.0, recall=True))
    assert states(ledger) == {1: "dead", 2: "dead", 3: "live"}


def _cancelled(ledger, job_id):
    assert ledger.cancel(Cancellation(job_id, "a", "")) == "cancelled"


def _released(ledger, job_id):
    assert ledger.release_held([job_id]) == 1


def _expired(ledger, job_id):
    write(ledger, update(STEPS).values(deadline=1))
    assert ledger.reap(1).expired == 1


@pytest.mark.parametrize(
    ("ends", "why"), [(_cancelled, "was cancelled"), (_released, "was released elsewhere"), (_expired, "is dead: the")]
)
def test_an_item_whose_job_is_no_longer_held_is_gone(ledger, reviews, ends, why):
    job_id, one = held(ledger)
    _, lease = given(reviews, ANN)
    ends(ledger, job_id)
    before = count(ledger, STEPS)
    with pytest.raises(Conflict, match=f"its job {why}"):
        reviews.decide(ANN, one, Decision(action="release", lease=lease))
    assert (row(ledger, one).state, count(ledger, REVIEW_DECISIONS), told(ledger)) == ("gone", 0, [])
    assert count(ledger, STEPS) == before
    with pytest.raises(Conflict, match=f"the item is gone: its job {why}"):
        reviews.decide(ANN, one, Decision(action="release", lease=lease))


def test_items_that_are_gone_are_passed_over_and_closed(ledger, reviews):
    gone = [held(ledger, rank=n) for n in range(3)]
    for job_id, _ in gone:
        _cancelled(ledger, job_id)
    job_id, forgotten = ended(ledger)
    write(ledger, delete(JOBS).where(JOBS.c.id == job_id))
    _, there = ended(ledger, rank=RANDOM + 1)
    assert given(reviews, ANN)[0] == there
    assert {row(ledger, each).state for _, each in gone} == {row(ledger, forgotten).state} == {"gone"}
    assert "forgotten" in row(ledger, forgotten).reason


@pytest.mark.parametrize("is_cancelled", [False, True])
def test_an_item_whose_job_was_deleted_meanwhile_is_gone(ledger, reviews, is_cancelled):
    """Also where somebody cancels the job that nobody knows any more: the ledger remembers that."""
    job_id, one = ended(ledger)
    _, lease = given(reviews, ANN)
    write(ledger, delete(JOBS).where(JOBS.c.id == job_id))
    if is_cancelled:
        ledger.cancel_all([Cancellation(job_id, "a", "")])
        assert reviews.item(ANN, one).content is None
    with pytest.raises(Conflict, match="forgotten"):
        reviews.decide(ANN, one, good(lease))
    assert (row(ledger, one).state, labels(ledger)) == ("gone", [])


def test_a_step_that_is_held_anew_after_a_replay_is_another_item(ledger, reviews):
    job_id, one = held(ledger)
    _, lease = given(reviews, ANN)
    write(ledger, update(JOBS).values(replays=1))
    with pytest.raises(Conflict, match="its job was replayed"):
        reviews.decide(ANN, one, Decision(action="release", lease=lease))
    again = item(ledger, job_id, rule="held", stage="moderate", replays=1, rank=50)
    assert given(reviews, BOB)[0] == again


def test_a_ledger_that_is_read_only_says_so_and_keeps_nothing(ledger, ledger_url, reviews):
    _, one = held(ledger)
    _, lease = given(reviews, ANN)
    if ledger.engine.dialect.name == "sqlite":
        with ledger.engine.connect() as connection:
            connection.exec_driver_sql("PRAGMA query_only = on")
        closed = ledger
    else:
        closed = Ledger.at(f"{ledger_url}?options=-cdefault_transaction_read_only%3Don")
    for act in (
        lambda: closed.of(Reviews).next(BOB, LEASE),
        lambda: closed.of(Reviews).decide(ANN, one, Decision(action="release", lease=lease)),
        lambda: closed.of(Reviews).skip(ANN, one, lease),
    ):
        with pytest.raises(Unavailable, match="the ledger is read-only"):
            act()
    assert (count(ledger, REVIEW_DECISIONS), row(ledger, one).decided, told(ledger)) == (0, 0, [])
    assert ledger.read(select(STEPS.c.state))[0][0] == "held"
    closed.close()


def sent(ledger, job_id, tenant="a"):
    return ledger.of(ReviewQueue).enter_by_hand(tenant, job_id)


def test_an_answer_that_a_person_sends_comes_before_all_drawn_ones_and_once(ledger, reviews):
    ended(ledger, rank=BEHIND_HELD + 5, rule="audit")
    job_id, first = ended(ledger, state="done", rank=BEHIND_HELD)
    _, of_held = held(ledger)
    item_id = sent(ledger, job_id)
    assert (sent(ledger, job_id), item_id == first) == (item_id, False)
    assert given(reviews, ANN)[0] == of_held
    got = given(reviews, BOB, held=False)
    assert got[0] == given(reviews, BOB, rule=MANUAL)[0] == item_id
    reviews.decide(BOB, item_id, good(got[1]))
    assert labels(ledger) == [("bob", "good", 1.0, None, item_id)]
    assert (row(ledger, item_id).probability, row(ledger, item_id).state) == (0.0, "done")
    assert sent(ledger, job_id) == item_id  # it is not asked about again
    assert row(ledger, item_id).state == "done"


def test_an_answer_that_waits_already_is_not_entered_twice(ledger):
    job_id, item_id = ended(ledger)
    assert sent(ledger, job_id) == item_id
    assert count(ledger, REVIEW_ITEMS) == 1


def test_what_has_no_answer_to_show_is_not_sent(ledger):
    active, _ = held(ledger)
    evaluated, _ = ended(ledger, state="done")
    blocked, _ = ended(ledger, state="done")
    for job_id, change in ((evaluated, {"metadata": {"evaluation": "e"}}), (blocked, {"status": "blocked"})):
        (before,) = ledger.read(select(JOBS.c.terminal).where(JOBS.c.id == job_id))
        after = json.dumps(json.loads(bytes(before.terminal)) | change).encode()
        write(ledger, update(JOBS).where(JOBS.c.id == job_id).values(terminal=after))
    for job_id in (active, evaluated, blocked):
        with pytest.raises(Conflict, match="this job has none"):
            sent(ledger, job_id)
    for job_id, tenant in ((evaluated, "b"), ("nobody", "a")):
        with pytest.raises(NoSuchItem):
            sent(ledger, job_id, tenant)


def test_so_many_sent_answers_wait_and_no_more(ledger):
    rules = {"scope": "", "digest": "", "rules": '{"most_open": 1, "people": 2}', "set_at": 1}
    write(ledger, REVIEW_RULES.insert().values(**rules))
    first, second = (ended(ledger, state="done")[0] for _ in range(2))
    assert row(ledger, sent(ledger, first)).wanted == 2
    with pytest.raises(Conflict, match="1 answers that people sent wait already"):
        sent(ledger, second)
    assert sent(ledger, first)
