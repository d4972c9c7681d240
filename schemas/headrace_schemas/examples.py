"""An example of each event, for `examples` in the AsyncAPI document and the JSON Schemas."""

from datetime import UTC, datetime
from typing import Final

from headrace_schemas.application_events import ApplicationLabelled
from headrace_schemas.attributes import Equality, Inner, Membership, Middle, Order, Outer
from headrace_schemas.budget import BudgetReached
from headrace_schemas.callback import Callback
from headrace_schemas.criteria import ChrF, Contains, Length, Pairwise, Rubric, Uncertain
from headrace_schemas.decision import Choice, ChoiceOption, Level, Predicate, ScaleQuestion
from headrace_schemas.envelope import Envelope
from headrace_schemas.errors import Category
from headrace_schemas.event_types import Event, EventType, known_types, type_of
from headrace_schemas.events import (
    Answer,
    DeadLetter,
    JobCancelled,
    JobEvent,
    JobHeld,
    JudgeVerdict,
    Moderated,
    Output,
    Result,
    Score,
    StageRecord,
    Usage,
)
from headrace_schemas.grounding import Citation, Grounding, WithoutPassages
from headrace_schemas.job import (
    AnyJob,
    CancelJob,
    DecisionJob,
    EmbeddingJob,
    EvaluationJob,
    GenerationJob,
    Lane,
    ModerationJob,
    Sampling,
    TuningJob,
    derive_job_id,
)
from headrace_schemas.message import Message
from headrace_schemas.min_quality import Attempt, QualityFloor
from headrace_schemas.model_events import BreakerClosed, BreakerOpened
from headrace_schemas.moderation import Finding, ModerationVerdict
from headrace_schemas.not_judged import NotJudged
from headrace_schemas.policy import PolicyRefused, PolicySwitched
from headrace_schemas.recall import CacheMode, Recall
from headrace_schemas.review import Review, ReviewDecided, ReviewedLabel

_TENANT: Final = "shop"
_KEY: Final = "summary-4711"
_JOB_ID: Final = derive_job_id(_TENANT, _KEY)
_MODEL: Final = "smollm2-135m-instruct"
_NOON: Final = datetime(2026, 1, 31, 12, tzinfo=UTC)
_ANSWER: Final = Answer(
    text="Write to ann@headrace.io: the mill needs water [1], and it rained [4].",
    finish_reason="stop",
    model=_MODEL,
    quantization="int8",
    usage=Usage(prompt_tokens=38, completion_tokens=14),
    recall=Recall(similarity=0.93, refused="negation: only one of the two questions says not"),
    grounding=Grounding(
        knowledge="mill",
        relevance=0.71,
        floor=0.35,
        citations=(
            Citation(
                number=1,
                document="mill/history.md",
                section="The mill > 1976",
                start=1_204,
                stop=2_010,
                chunk="5f2c9d1e8a7b4c30",
                relevance=0.71,
                cited=True,
                attributes={"language": "en", "year": 1976},
            ),
        ),
        unknown=(4,),
    ),
)
_MODERATED: Final = _ANSWER.with_text("Write to [EMAIL]: the mill needs water [1], and it rained [4].")
_VERDICT: Final = ModerationVerdict(
    action="redact",
    flagged=True,
    categories={"personal_data": True, "profanity": False, "secrets": False},
    category_scores={"personal_data": 1.0, "profanity": 0.0, "secrets": 0.0},
    findings=(Finding(category="email", detector="personal_data", score=1.0, start=9, end=24, action="redact"),),
    detectors={"personal_data": "0.1.0+2.2.366", "profanity": "0.1.0+1.9.1", "secrets": "0.1.0+1.5.0"},
    policy="5f2c9d1e8a7b",
)
_STAGES: Final = tuple(
    StageRecord(stage=stage, attempt=1, waited_ms=waited, ran_ms=ran, group_size=8)
    for stage, waited, ran in (("generate", 112.0, 840.5), ("moderate", 9.5, 4.25), ("judge", 8.0, 1.5))
)

_EVENTS: Final[tuple[Event, ...]] = (
    GenerationJob(
        tenant=_TENANT,
        idempotency_key=_KEY,
        model=_MODEL,
        messages=(
            Message(role="system", content="Answer in one sentence."),
            Message(role="user", content="Why did the mill stand still all summer?"),
        ),
        sampling=Sampling(temperature=0.7, top_p=0.9, top_k=40, max_tokens=60, stop=("\n\n",), seed=7),
        lane=Lane.BATCH,
        priority=7,
        deadline=_NOON.replace(hour=13),
        metadata={"order": "4711"},
        callback=Callback(url="https://shop.example/hooks?order=4711", events=("job.completed", "job.failed")),
        criteria=(Contains(text="water"), Length(max_words=30)),
        cache=CacheMode.SEMANTIC,
        max_age=86_400.0,
        knowledge="mill",
        knowledge_filter=Outer(
            type="and",
            filters=(
                Equality(type="eq", key="language", value="en"),
                Middle(
                    type="or",
                    filters=(
                        Order(type="gte", key="year", value=1970),
                        Inner(
                            type="and", filters=(Membership(type="in", key="kind", value=("letter", "deed", 7, True)),)
                        ),
                    ),
                ),
            ),
        ),
        without_passages=WithoutPassages.ABSTAIN,
    ),
    EvaluationJob(
        tenant=_TENANT,
        idempotency_key="check-4711",
        input="What is 2 + 2?",
        output="4, of course.",
        context="Arithmetic for beginners.",
        reference="4",
        other="It is 4.",
        criteria=(
            ChrF(),
            Rubric(question="Is the answer polite?", scale="1-5", model=_MODEL, share=0.1),
            Pairwise(uncertain=Uncertain(criterion="chrf"), share=0.05),
        ),
        metadata={"order": "4711"},
    ),
    EmbeddingJob(
        tenant=_TENANT,
        idempotency_key="vector-4711",
        model="all-minilm-l6-v2",
        input="Why did the mill stand still all summer?",
        dimensions=256,
        lane=Lane.BATCH,
        metadata={"order": "4711"},
    ),
    ModerationJob(
        tenant=_TENANT,
        idempotency_key="review-4711",
        input="Write to ann@headrace.io: the flour was good.",
        metadata={"order": "4711"},
    ),
    DecisionJob(
        tenant=_TENANT,
        idempotency_key="triage-4711",
        model=_MODEL,
        input="The flour has not arrived, and the bakery opens at five!",
        questions=(
            Predicate(type="predicate", name="urgent", instructions="Is it urgent?"),
            Choice(
                type="choice",
                name="queue",
                instructions="Which team should read this?",
                choices=(
                    ChoiceOption(value="delivery", description="Late, lost or damaged goods."),
                    ChoiceOption(value="billing"),
                    ChoiceOption(value=False, description="No team of ours."),
                ),
            ),
            ScaleQuestion(
                type="score",
                instructions="How angry is the writer?",
                levels=(Level(label="calm"), Level(label="annoyed"), Level(label="furious")),
            ),
        ),
        metadata={"order": "4711"},
    ),
    TuningJob(
        tenant=_TENANT,
        idempotency_key="tickets-2026-01",
        model=_MODEL,
        training_file="file-3f5b2c1d9e8a4b7c",
        suffix="tickets",
        epochs=3,
        metadata={"order": "4711"},
    ),
    CancelJob(job_id=_JOB_ID, tenant=_TENANT, reason="the customer has left"),
    Review(job_id=_JOB_ID, tenant=_TENANT, criterion="polite", label=True, who="ann", when=_NOON, probability=0.05),
    Output(
        job_id=_JOB_ID,
        tenant=_TENANT,
        stages=_STAGES[:1],
        answer=_ANSWER,
    ),
    Moderated(
        job_id=_JOB_ID,
        tenant=_TENANT,
        stages=_STAGES[:2],
        answer=_MODERATED,
        moderation=_VERDICT,
    ),
    JobHeld(
        job_id=_JOB_ID,
        tenant=_TENANT,
        stages=_STAGES[:1],
        stage="moderate",
        reason="the moderation policy 5f2c9d1e8a7b wants a person to review: profanity (1 x, 0.83 at most)",
        needs_person=True,
    ),
    Result(
        job_id=_JOB_ID,
        tenant=_TENANT,
        stages=_STAGES,
        status="completed",
        kind="generation",
        idempotency_key=_KEY,
        metadata={"order": "4711"},
        answer=_MODERATED,
        moderation=_VERDICT,
        judge=JudgeVerdict(
            floor=QualityFloor(
                criterion="contains",
                floor=1.0,
                outcome="met",
                attempts=(Attempt(value=0.0), Attempt(value=1.0)),
                chosen=2,
            ),
            scores=(
                Score(criterion="contains", value=1.0),
                Score(
                    criterion="exact_match",
                    not_judged=NotJudged.NO_REFERENCE,
                    reason="the job gave no reference to compare with",
                ),
            ),
        ),
        accepted_at=_NOON,
        total_ms=975.75,
    ),
    JobCancelled(job_id=_JOB_ID, tenant=_TENANT, reason="the customer has left"),
    DeadLetter(
        refers_to=_JOB_ID,
        tenant=_TENANT,
        category=Category.INVALID,
        reason="priority: must be at most 9",
        stage="ingest",
        topic="jobs.generation",
        partition=2,
        offset=1042,
        key=_JOB_ID,
        ce_id="evt-1",
        ce_subject=_JOB_ID,
        correlationid="order-4711",
        size=92,
        original=f'{{"tenant":"{_TENANT}","idempotency_key":"{_KEY}","model":"{_MODEL}","prompt":"Why?","priority":10}}',
        encoding="utf-8",
    ),
    BudgetReached(tenant=_TENANT, period="month", percent=80, most=250_000_000, spent=200_014_250, reserved=96_000),
    PolicySwitched(tenant=_TENANT, before="5f2c9d1e8a7b", version="0c41d7be93a2"),
    PolicyRefused(
        version="0c41d7be93a2",
        reason="moderation policy policy.toml, line 4: categories.emial: unknown category 'emial'; known are card, …",
    ),
    BreakerOpened(model=_MODEL, reason="no answer began within 30 s", until=_NOON),
    BreakerClosed(model=_MODEL, opened_at=_NOON),
    ApplicationLabelled(
        tenant=_TENANT,
        application="ticket-triage",
        label="production",
        number=3,
        digest="9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
        before=2,
        who="ada",
        why="fewer wrong queues",
    ),
    ReviewDecided(
        item="6f1c2b9e-1d0c-5e5b-9a52-4b8a1f2d7c33",
        job_id=_JOB_ID,
        tenant=_TENANT,
        rule="audit",
        action="label",
        labels=(ReviewedLabel(criterion="polite", value=1.0),),
        who="ada",
        revision=1,
    ),
)
EXAMPLES: Final[dict[str, Event]] = {type_of(event): event for event in _EVENTS}


def example_of(event_type: EventType) -> Event | JobEvent:
    """Return the example of an event type: its own, or one of the contract's."""
    return event_type.example or EXAMPLES[event_type.name]


def example_envelope(event_type: str) -> Envelope:
    """Return the envelope that an example comes in."""
    event = EXAMPLES.get(event_type)
    sent = isinstance(event, AnyJob | CancelJob | Review)
    job_id = event.job_id if isinstance(event, CancelJob | Review) else _JOB_ID
    if isinstance(event, AnyJob):
        job_id = event.job_id("")
    key = _key_of_no_job(event)
    of_job = key is None
    number = [known.name for known in known_types()].index(event_type) + 1
    return Envelope(
        id=f"evt-{number}" if sent else derive_job_id(_TENANT, event_type),
        type=event_type,
        source="/shop/orders" if sent else "/headrace",
        time=_NOON,
        subject=job_id if of_job else None,
        partitionkey=job_id if of_job else key,
        traceparent="00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01" if of_job else None,
        correlationid="order-4711" if of_job else None,
        expirytime=event.deadline if isinstance(event, GenerationJob) else None,
    )


def _key_of_no_job(event: Event | None) -> str | None:
    """Return the key of an event that is about no job; None for one that is about a job."""
    if isinstance(event, PolicySwitched | PolicyRefused):
        return "policies"
    if isinstance(event, BreakerOpened | BreakerClosed):
        return event.model
    if isinstance(event, ApplicationLabelled):
        return f"{event.tenant}/{event.application}"
    return event.tenant if isinstance(event, BudgetReached) else None
