import pytest
from tests.workers.features.reviews.review_rows import (
    ANN,
    ASKED,
    FOUND,
    LEASE,
    SAID,
    answer,
    ended,
    good,
    held,
)
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture

from headrace_schemas import Contains, GenerationJob, Moderated, ModerationVerdict, Rubric
from headrace_schemas.grounding import Citation, Grounding
from headrace_workers.features.reviews.item_texts import GOOD
from headrace_workers.features.reviews.store import Reviews


@pytest.fixture
def reviews(ledger):
    return ledger.of(Reviews)


def test_an_ended_answer_shows_no_verdict_and_no_score_until_the_person_has_decided(ledger, reviews):
    _, one = ended(ledger)
    item = reviews.next(ANN, LEASE)
    assert (item.shown.answer, item.shown.turns[0].content) == (SAID, "How do I reach you?")
    assert (item.shown.verdict, item.shown.scores) == (None, ())
    assert reviews.item(ANN, one).shown == item.shown
    reviews.decide(ANN, one, good(item.lease))
    after = reviews.item(ANN, one).shown
    assert (after.verdict.action, after.scores[0].value) == ("allow", 0.3)
    other = ANN._replace(who="bob")
    assert reviews.item(other, one).shown.scores == ()
    reviews.undo(ANN, one)
    assert reviews.item(ANN, one).shown == item.shown


def test_an_item_tells_the_asking_person_of_their_own_lease_alone(ledger, reviews):
    _, one = ended(ledger)
    item = reviews.next(ANN, LEASE)
    mine, others = reviews.item(ANN, one), reviews.item(ANN._replace(who="bob"), one)
    assert (mine.lease, mine.until, others.lease, others.until) == (item.lease, item.until, None, None)


def test_a_held_answer_shows_what_was_found_in_it(ledger, reviews):
    known = {"verdict": FOUND.model_dump(mode="json", exclude_none=True)}
    _, one = held(ledger, known=known)
    shown = reviews.item(ANN, one).shown
    found = shown.verdict.findings[0]
    assert shown.answer[found.start : found.end] == "jo@headrace.io"
    assert (shown.reason, shown.of_text, shown.categories) == ("why", None, ("personal_data",))


def test_a_step_that_was_held_before_it_kept_its_verdict_shows_what_there_is(ledger, reviews):
    _, one = held(ledger)
    assert (reviews.item(ANN, one).shown.verdict, reviews.item(ANN, one).shown.answer) == (None, SAID)
    passed = ModerationVerdict(action="allow")
    event = Moderated(job_id="x" * 36, tenant="a", answer=answer(), moderation=passed)
    _, two = held(ledger, event=event, stage="judge")
    assert reviews.item(ANN, two).shown.verdict == passed


def test_people_are_asked_by_the_criteria_that_the_job_names(ledger, reviews):
    named = (Rubric(question="Is it kind?", name="kind"), Contains(text="x"), Contains(text="y", name="has_y"))
    _, one = ended(ledger, ASKED.model_copy(update={"criteria": named}))
    asked = reviews.item(ANN, one).shown.criteria
    assert [tuple(item) for item in asked] == [("kind", "rubric", "Is it kind?"), ("has_y", "contains", None)]
    _, two = ended(ledger, GenerationJob(model="m", prompt="?", tenant="a", criteria=(Contains(text="x"),)))
    assert [criterion.name for criterion in reviews.item(ANN, two).shown.criteria] == [GOOD]


def test_an_answer_is_shown_with_the_passages_that_it_rests_on(ledger, reviews):
    passage = Citation(number=1, document="a.md", start=0, stop=9, chunk="k", relevance=0.5, cited=True)
    _, one = ended(ledger, shown=answer(grounding=Grounding(knowledge="docs", floor=0.3, citations=(passage,))))
    assert reviews.item(ANN, one).shown.citations == (passage,)
