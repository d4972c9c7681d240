"""A text that a person wrote instead of a held answer, on its way through the real stages of a ledger."""

from functools import partial

import pytest
from sqlalchemy import select
from tests.workers.core.ledger.test_work import settings, write
from tests.workers.core.pipeline.claimed import output, settled
from tests.workers.features.reviews.review_rows import LEASE
from tests.workers.ledger_in_short import ledger_url  # noqa: F401 - a fixture
from tests.workers.ledger_jobs import take_in
from tests.workers.runtime.bridge.records import generation

from headrace_schemas import Answer, Contains, MinQuality, Output, Topic, Usage
from headrace_schemas.codec import decode_value
from headrace_workers.core.clock import SystemClock
from headrace_workers.core.ledger.claims import Wanted
from headrace_workers.core.ledger.outcome import Done, Held
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.core.pipeline.task import pack, unpack
from headrace_workers.core.tables import JOBS
from headrace_workers.features.judging.stage import judge
from headrace_workers.features.moderation.blocklist import BlocklistDetector
from headrace_workers.features.moderation.corrected import MODERATE
from headrace_workers.features.moderation.moderator import PolicyModerator
from headrace_workers.features.moderation.personal_data import PersonalDataDetector
from headrace_workers.features.moderation.policy import Policy, Rule
from headrace_workers.features.moderation.policy_file import load_policy
from headrace_workers.features.moderation.step import SeenPrompts, moderate, screen
from headrace_workers.features.reviews.decision import Decision, Person
from headrace_workers.features.reviews.store import Reviews
from headrace_workers.runtime.worker.work import Work

ANN = Person("default", "ann")
QUEUES = ("screen", "model.echo", "moderate", "judge")


def moderator(**rules):
    """Lets a person review the word `bad`, and does with personal data as is usual, unless it is said otherwise."""
    usual = dict(load_policy(None).rules)
    changed = {"blocklist": Rule("review"), **rules}
    return PolicyModerator([BlocklistDetector(["bad"]), PersonalDataDetector()], Policy(usual | changed))


def answers(tasks, text):
    usage = Usage(prompt_tokens=1, completion_tokens=1)
    said = Answer(text=text, finish_reason="length", model="echo", quantization="none", usage=usage)
    return [Done(Output(job_id=task.job_id, tenant="default", answer=said)) for task in tasks]


class Way:
    """One job, run until it ends or waits for a person."""

    def __init__(self, ledger, says="All bad.", policy=None, **job):
        self.ledger = ledger
        self.reviews = ledger.of(Reviews)
        looks = policy or moderator()
        steps = {
            ("screen", "screen"): partial(
                screen, screener=looks, seen_prompts=SeenPrompts(), trusts_system=lambda _: True
            ),
            ("model.echo", "generate"): partial(answers, text=says),
            ("moderate", "moderate"): partial(moderate, moderator=looks),
            ("judge", "judge"): partial(judge, generator=None),
        }
        self.work = Work(Pipeline(), steps, settings(), SystemClock())
        (self.id,) = take_in(ledger, [generation(**job)])
        self.on()

    def on(self):
        """Run what is ready, until nothing is."""
        while ready := [queue for queue in QUEUES if self._begins(queue)]:
            assert ready

    def _begins(self, queue):
        found = self.ledger.claim([Wanted(queue, 0, 1, 32)], lease_ms=60_000, sender="b").claims
        for claim in found:
            started = self.ledger.start(claim.id, worker="w", lease_ms=60_000)
            write(self.ledger, started, self.work.do(started))
        return found

    def decided(self, action, corrected=None):
        """Decide about the next item, and go on; the item as it was shown."""
        item = self.reviews.next(ANN, LEASE)
        self.reviews.decide(ANN, item.row.id, Decision(action=action, corrected=corrected, lease=item.lease))
        self.on()
        return item

    def end(self):
        ((kind, value),) = self.ledger.read(select(JOBS.c.terminal_type, JOBS.c.terminal).where(JOBS.c.id == self.id))
        return decode_value(kind, value)

    def told(self, topic):
        return [row.record.headers["ce_id"] for row in self.ledger.outbox(99) if row.record.topic is topic]


def test_a_corrected_text_is_moderated_by_todays_policy_and_marked(ledger):
    way = Way(ledger)
    shown = way.decided("correct", "Write to jo@headrace.io.").shown
    assert [(found.category, found.start, found.end) for found in shown.verdict.findings] == [("blocklist", 4, 7)]
    assert (shown.answer, shown.turns[0].content) == ("All bad.", generation().prompt)
    end = way.end()
    assert (end.status, end.answer.text, end.answer.by_person) == ("completed", "Write to [EMAIL].", True)
    assert (end.answer.finish_reason, end.moderation.action) == ("stop", "redact")
    assert len(set(way.told(Topic.OUTPUTS))) == len(way.told(Topic.OUTPUTS)) == 2
    assert [stage.stage for stage in end.stages] == ["generate", "moderate", "moderate", "judge"]


def test_a_corrected_text_that_is_to_be_reviewed_is_a_new_item(ledger):
    way = Way(ledger)
    first = way.decided("correct", "Still bad.")
    second = way.decided("release")
    assert (first.row.id != second.row.id, second.row.ordinal) == (True, 1)
    assert second.shown.answer == "Still bad."
    assert (way.end().answer.text, way.end().answer.by_person) == ("Still bad.", True)


def test_a_corrected_text_that_the_policy_blocks_is_shown_to_nobody(ledger):
    way = Way(ledger, policy=moderator(email=Rule("block", again=True)))
    way.decided("correct", "Write to jo@headrace.io.")
    assert (way.end().status, way.end().answer.text) == ("blocked", None)


def test_a_text_that_is_corrected_for_its_quality_ends_the_job(ledger):
    floor = MinQuality(criterion="contains", value=1.0, then="hold")
    way = Way(ledger, "No idea.", criteria=(Contains(text="water"),), min_quality=floor)
    item = way.decided("correct", "It stood still.")
    assert (item.row.stage, item.shown.scores[0].value, item.shown.verdict.action) == ("judge", 0.0, "allow")
    assert "the job wants 1 or a person's word" in item.shown.reason
    end = way.end()
    assert (end.answer.text, end.answer.by_person) == ("It stood still.", True)
    assert (end.judge.floor.outcome, end.judge.scores[0].value) == ("below", 0.0)


@pytest.mark.parametrize("then", ["regenerate", "next"])
def test_no_model_is_asked_for_better_than_a_person_wrote(ledger, then):
    floor = MinQuality(criterion="contains", value=1.0, then=then)
    way = Way(ledger, criteria=(Contains(text="water"),), min_quality=floor)
    way.decided("correct", "It stood still.")
    assert (way.end().answer.text, way.end().judge.floor.outcome) == ("It stood still.", "below")


def test_a_job_that_is_held_at_each_stage_has_an_item_for_each(ledger):
    floor = MinQuality(criterion="contains", value=1.0, then="hold")
    way = Way(ledger, prompt="Is it bad?", screen=True, criteria=(Contains(text="water"),), min_quality=floor)
    prompt = way.decided("release")
    assert (prompt.shown.answer, prompt.shown.of_text) == (None, "Is it bad?")
    assert prompt.shown.verdict.findings[0].start == 6
    said, poor = way.decided("release"), way.decided("correct", "Water.")
    assert [item.row.stage for item in (prompt, said, poor)] == ["screen", "moderate", "judge"]
    assert len({item.row.id for item in (prompt, said, poor)}) == 3
    assert (way.end().answer.text, way.end().judge.floor.outcome) == ("Water.", "met")


def test_what_was_known_while_it_was_held_ends_with_the_step():
    context = pack({"held": {"verdict": {}}, "other": 1}, ())
    done = settled(Done(), "screen", context=context)
    assert unpack(done.following[0].context)[0] == {"other": 1}
    held = settled(Held("why", known={"verdict": 2}), "screen", context=context)
    assert unpack(held.context)[0] == {"held": {"verdict": 2}, "other": 1}


def test_a_step_that_knows_too_much_is_held_without_that():
    held = settled(Held("why", known={"said": "x" * 5_000_000}), "screen")
    assert (held.context, type(held.outcome)) == (None, Held)


def test_no_call_of_a_judge_is_charged_for_what_a_person_wrote():
    context = pack({"held": {"corrected": "better"}}, ())
    done = settled(Done(output("better"), to=MODERATE), "rubric", context=context)
    assert (done.charge.model, done.charge.made) == ("echo", False)
