"""Hypothesis strategies for every event of the contract."""

import base64
from datetime import UTC
from typing import get_args

from hypothesis import strategies as st

from headrace_schemas import (
    Answer,
    Bleu,
    CancelJob,
    Category,
    Choice,
    ChrF,
    Contains,
    Cosine,
    DeadLetter,
    DecisionJob,
    Decisions,
    Embedding,
    EmbeddingJob,
    EvaluationJob,
    ExactMatch,
    Finding,
    FuzzyMatch,
    GenerationJob,
    Gleu,
    JobCancelled,
    JobHeld,
    JsonSchema,
    JsonValid,
    JudgeVerdict,
    Language,
    Length,
    Message,
    MinQuality,
    Moderated,
    ModerationJob,
    ModerationVerdict,
    NotJudged,
    Output,
    Pairwise,
    Predicate,
    Regex,
    Result,
    Rouge,
    Rubric,
    Sampling,
    ScaleQuestion,
    Score,
    StageRecord,
    TokenF1,
    Tuned,
    TuningJob,
    Usage,
)
from headrace_schemas.application_events import ApplicationLabelled
from headrace_schemas.attributes import Equality, Inner, Membership, Middle, Order, Outer
from headrace_schemas.budget import BudgetReached
from headrace_schemas.callback import JOB_EVENTS, Callback
from headrace_schemas.decision import (
    ChoiceAnswer,
    ChoiceOption,
    ChoiceProbability,
    Level,
    LevelProbability,
    PredicateAnswer,
    RefusedAnswer,
    ScoreAnswer,
)
from headrace_schemas.events import JobKind
from headrace_schemas.grounding import Citation, Grounding, WithoutPassages
from headrace_schemas.job import Lane
from headrace_schemas.min_quality import Attempt, QualityFloor
from headrace_schemas.model_events import BreakerClosed, BreakerOpened
from headrace_schemas.policy import PolicyRefused, PolicySwitched
from headrace_schemas.review import Review, ReviewDecided, ReviewedLabel
from headrace_schemas.tuning import Lora

texts = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), max_size=40)
filled = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=40)
aliases = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}", fullmatch=True)
tenants = st.from_regex(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}", fullmatch=True)
names = st.from_regex(r"[a-z][a-z0-9_]{0,63}", fullmatch=True)
job_ids = st.uuids().map(str)
times = st.datetimes(timezones=st.just(UTC))
counts = st.integers(0, 2**53)
units = st.floats(0, 1)
durations = st.floats(0, 1e12)


def maybe(strategy: st.SearchStrategy) -> st.SearchStrategy:
    return st.none() | strategy


def tuples(strategy: st.SearchStrategy, **bounds: int) -> st.SearchStrategy:
    return st.lists(strategy, **{"max_size": 3, **bounds}).map(tuple)


lengths = st.tuples(st.integers(0, 50), maybe(st.integers(50, 99))).map(
    lambda p: Length(min_words=p[0], max_words=p[1])
)
plain_criteria = st.one_of(
    st.builds(
        ExactMatch,
        ignore_case=st.booleans(),
        share=st.sampled_from([1.0, 0.5, 1e-9]),
        trim=st.booleans(),
        differs=st.booleans(),
        reference=maybe(texts),
        template=maybe(st.from_regex(r"[0-9a-f]{12}", fullmatch=True)),
    ),
    st.sampled_from([TokenF1(), ChrF(), Bleu(), Gleu(), FuzzyMatch(), Cosine(), JsonValid()]),
    st.builds(Contains, text=filled, ignore_case=st.booleans()),
    st.builds(Regex, pattern=filled),
    st.builds(Rouge, variant=st.sampled_from(["l", "1", "2", "5"])),
    st.builds(JsonSchema, json_schema=st.sampled_from([{}, {"type": "object"}, {"items": {"minimum": 1.5}}])),
    st.builds(Language, language=st.sampled_from(["en", "zh", "tlh"])),
    lengths,
)
attribute_keys = st.text(st.characters(exclude_characters="\x00", exclude_categories=["Cs"]), min_size=1, max_size=9)
attribute_values = texts | st.booleans() | st.integers(-(2**60), 2**60) | st.floats(-1e300, 1e300)
attributes = st.dictionaries(attribute_keys, attribute_values, max_size=3)
comparisons = st.one_of(
    st.builds(Equality, type=st.sampled_from(["eq", "ne"]), key=attribute_keys, value=attribute_values),
    st.builds(Order, type=st.sampled_from(["gt", "gte", "lt", "lte"]), key=attribute_keys, value=attribute_values),
    st.builds(Membership, type=st.sampled_from(["in", "nin"]), key=attribute_keys, value=tuples(attribute_values)),
)
both = st.sampled_from(["and", "or"])
inner = st.builds(Inner, type=both, filters=tuples(comparisons, min_size=1))
middle = st.builds(Middle, type=both, filters=tuples(comparisons | inner, min_size=1))
filters = comparisons | st.builds(Outer, type=both, filters=tuples(comparisons | middle, min_size=1))
scales = st.sampled_from(["yes_no", "1-5"])
judges = st.sampled_from([None, "judge"])
criteria = (
    plain_criteria | st.builds(Rubric, question=filled, scale=scales, model=judges) | st.builds(Pairwise, model=judges)
)

urls = st.from_regex(r"https?://[!-~]{1,60}", fullmatch=True)
job_ends = tuples(st.sampled_from(JOB_EVENTS))
callbacks = (
    st.builds(Callback, url=urls, events=job_ends, response=st.booleans())
    | st.builds(Callback, endpoint=st.from_regex(r"[A-Za-z0-9_-]{1,36}", fullmatch=True), events=job_ends)
    | st.just(Callback(response=True))
)

job_fields = {
    "tenant": tenants,
    "idempotency_key": maybe(filled),
    "lane": st.sampled_from(Lane),
    "priority": st.integers(0, 9),
    "deadline": maybe(times),
    "metadata": st.dictionaries(filled, texts, max_size=3),
    "callback": maybe(callbacks),
}
judged_fields = {**job_fields, "reference": maybe(texts), "other": maybe(texts)}
samplings = st.builds(
    Sampling,
    temperature=st.floats(0, 2),
    top_p=st.floats(0, 1, exclude_min=True),
    top_k=st.integers(0, 1000),
    max_tokens=st.integers(1, 32_768),
    stop=tuples(filled),
    seed=maybe(st.integers(0, 2**32 - 1)),
    repetition_penalty=maybe(st.floats(0, 2, exclude_min=True)),
)
applications = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,63}(@[A-Za-z0-9][A-Za-z0-9_.-]{0,63})?", fullmatch=True)
variables = st.dictionaries(names, attribute_values | tuples(texts), max_size=3)
messages = st.builds(Message, role=st.sampled_from(["system", "user", "assistant"]), content=texts)
floors = [MinQuality(criterion="f1", value=0.5), MinQuality(criterion="f1", value=1, then="hold", attempts=3)]
common = {"model": aliases, "sampling": samplings, "criteria": tuples(criteria), **judged_fields}
common |= {"knowledge": maybe(aliases)}
on_a_base = common | {"knowledge": aliases, "without_passages": maybe(st.sampled_from(WithoutPassages))}
generations = st.one_of(
    st.builds(GenerationJob, prompt=filled, **common),
    st.builds(GenerationJob, messages=tuples(messages, min_size=1), **common),
    st.builds(
        GenerationJob,
        prompt=filled,
        **common | {"criteria": st.just((TokenF1(),)), "min_quality": st.sampled_from(floors)},
    ),
    st.builds(GenerationJob, prompt=filled, **on_a_base | {"knowledge_filter": maybe(filters)}),
    st.builds(GenerationJob, application=applications, variables=variables, prompt=maybe(filled)),
    st.builds(GenerationJob, model=applications, variables=variables, messages=tuples(messages, min_size=1)),
)
evaluations = st.builds(
    EvaluationJob,
    input=texts,
    output=texts,
    context=maybe(texts),
    criteria=tuples(criteria, min_size=1),
    **judged_fields,
)
embeddings = st.builds(
    EmbeddingJob, model=aliases, input=filled, dimensions=maybe(st.integers(1, 16_384)), **job_fields
)
moderations = st.builds(ModerationJob, input=filled, model=maybe(aliases), **job_fields)
values = st.sampled_from([True, False, "true", "True", "a", "ab"])
options = st.lists(values, min_size=2, max_size=4, unique_by=repr).map(
    lambda chosen: tuple(ChoiceOption(value=value, description="what it means") for value in chosen)
)
levels = st.lists(filled, min_size=2, max_size=4, unique=True).map(
    lambda labels: tuple(Level(label=label) for label in labels)
)
questions = st.one_of(
    st.builds(Predicate, type=st.just("predicate"), instructions=filled),
    st.builds(Choice, type=st.just("choice"), instructions=filled, choices=options),
    st.builds(ScaleQuestion, type=st.just("score"), instructions=filled, levels=levels),
)
decided = {"model": aliases, "questions": tuples(questions, min_size=1), "screen": maybe(st.booleans()), **job_fields}
decisions = st.builds(DecisionJob, input=filled, **decided) | st.builds(
    DecisionJob, messages=tuples(messages, min_size=1), **decided
)
tunings = st.builds(
    TuningJob,
    model=aliases,
    training_file=st.just("file-1"),
    validation_file=maybe(st.just("file-2")),
    suffix=maybe(st.from_regex(r"[a-z0-9][a-z0-9-]{0,39}", fullmatch=True)),
    seed=maybe(st.integers(0, 2**32 - 1)),
    epochs=maybe(st.integers(1, 50)),
    batch_size=maybe(st.integers(1, 1_024)),
    learning_rate_multiplier=maybe(st.floats(0.01, 100)),
    lora=maybe(st.builds(Lora, rank=st.integers(1, 256), alpha=st.integers(1, 1_024), targets=st.just(("q_proj",)))),
    quantizations=st.sampled_from([("int8",), ("int8", "float32")]),
    **job_fields,
)
cancellations = st.builds(CancelJob, job_id=job_ids, tenant=tenants, reason=texts)

labels = st.from_regex(r"[A-Za-z][A-Za-z0-9_.-]{0,63}", fullmatch=True)
hazards = st.from_regex(r"[a-z][a-z0-9_-]{0,9}(/[a-z0-9_-]{1,9})?", fullmatch=True)
said = {"job_id": job_ids, "tenant": tenants, "who": filled, "when": times,
        "probability": maybe(st.floats(0, 1, exclude_min=True))}  # fmt: skip
reviews = st.builds(Review, criterion=labels, label=st.booleans(), **said) | st.builds(
    Review, category=hazards, score=units, **said
)

records = st.builds(
    StageRecord,
    stage=names,
    attempt=st.integers(1, 9),
    waited_ms=durations,
    ran_ms=durations,
    group_size=st.integers(1, 99),
)
about = {"job_id": job_ids, "tenant": tenants, "stages": tuples(records)}
usages = st.builds(Usage, prompt_tokens=counts, completion_tokens=counts)
endings = st.sampled_from(["stop", "length", "abstained"])
relevances = st.floats(-1, 1)
citations = st.builds(
    Citation,
    number=st.integers(1, 99),
    document=texts,
    section=texts,
    start=counts,
    stop=counts,
    chunk=texts,
    relevance=relevances,
    cited=st.booleans(),
    suspicious=tuples(names),
    attributes=attributes,
)
groundings = st.builds(
    Grounding,
    knowledge=aliases,
    relevance=maybe(relevances),
    floor=relevances,
    citations=tuples(citations),
    unknown=tuples(counts),
    reason=maybe(texts),
)
facts = {
    "finish_reason": endings,
    "model": aliases,
    "quantization": names,
    "usage": usages,
    "grounding": maybe(groundings),
}
written = st.builds(Answer, text=texts, **facts)
withheld = st.builds(Answer, text=st.none(), **facts)
outputs = st.builds(Output, answer=written, **about)
actions = st.sampled_from(["allow", "redact", "block"])
findings = st.builds(Finding, category=hazards, detector=names, score=units, start=counts, end=counts, action=actions)
rests_on = {
    "categories": st.dictionaries(hazards, st.booleans(), max_size=3),
    "category_scores": st.dictionaries(hazards, units, max_size=3),
    "findings": tuples(findings),
    "detectors": st.dictionaries(names, texts, max_size=2),
    "policy": maybe(texts),
}
blocked = st.builds(ModerationVerdict, action=st.just("block"), **rests_on)
passed = st.builds(ModerationVerdict, action=st.sampled_from(["allow", "redact"]), **rests_on)
moderated = st.builds(Moderated, answer=written, moderation=passed, **about) | st.builds(
    Moderated, answer=withheld, moderation=blocked, **about
)
scores = st.builds(
    Score,
    criterion=names,
    value=units,
    mass=maybe(units),
    model=maybe(aliases),
    note=maybe(texts),
    probability=st.floats(0, 1, exclude_min=True),
) | st.builds(Score, criterion=names, not_judged=st.sampled_from(NotJudged), reason=texts, model=maybe(aliases))
vectors = st.builds(
    Embedding,
    model=aliases,
    embedder=texts,
    dimensions=st.integers(1, 16_384),
    vector=st.binary(max_size=40).map(lambda data: base64.b64encode(data).decode()),
    usage=usages,
)
answered = {"name": maybe(filled), "mass": maybe(units), "calibrated": st.booleans(), "stated": st.booleans()}
probabilities = st.builds(ChoiceProbability, value=filled | st.booleans(), probability=units)
points = st.builds(LevelProbability, label=filled, probability=units, value=st.integers(-5, 5))
answers = st.one_of(
    st.builds(PredicateAnswer, type=st.just("predicate"), probability=units, **answered),
    st.builds(
        ChoiceAnswer,
        type=st.just("choice"),
        choice=filled | st.booleans(),
        confidence=units,
        probabilities=tuples(probabilities),
        **answered,
    ),
    st.builds(
        ScoreAnswer,
        type=st.just("score"),
        score=st.floats(-5, 5),
        confidence=units,
        probabilities=tuples(points),
        **answered,
    ),
    st.builds(RefusedAnswer, type=st.just("refusal"), **answered),
)
decided_answers = st.builds(Decisions, model=aliases, quantization=names, usage=usages, answers=tuples(answers))
tuned = st.builds(
    Tuned,
    model=aliases,
    aliases=tuples(aliases, min_size=1),
    usage=usages,
    metrics=st.dictionaries(names, st.floats(-5, 5), max_size=3),
    lineage=maybe(st.just("a" * 64)),
)
attempts = st.builds(Attempt, value=units) | st.builds(Attempt, not_judged=st.sampled_from(NotJudged))
told_floors = st.builds(
    QualityFloor,
    criterion=st.just("f1"),
    floor=units,
    outcome=st.sampled_from(["met", "below", "not_judged"]),
    attempts=tuples(attempts, min_size=1),
    chosen=st.integers(1, 4),
    note=maybe(texts),
)
results = st.builds(
    Result,
    status=st.sampled_from(["completed", "blocked"]),
    refusal=maybe(st.just("prompt_blocked")),
    kind=st.sampled_from(get_args(JobKind)),
    idempotency_key=maybe(filled),
    metadata=job_fields["metadata"],
    answer=maybe(written | withheld),
    moderation=maybe(blocked | passed),
    embedding=maybe(vectors),
    decisions=maybe(decided_answers),
    tuned=maybe(tuned),
    judge=st.builds(JudgeVerdict, scores=tuples(scores), floor=maybe(told_floors)),
    accepted_at=times,
    total_ms=durations,
    **about,
)
jobs_held = st.builds(JobHeld, stage=names, reason=texts, needs_person=st.booleans(), **about)
cancelled = st.builds(JobCancelled, reason=texts, **about)
dead = st.builds(
    DeadLetter,
    job_id=maybe(job_ids),
    tenant=maybe(tenants),
    category=st.sampled_from(Category),
    reason=texts,
    stage=names,
    attempts=counts,
    topic=texts,
    size=counts,
    original=texts,
    encoding=st.sampled_from(["utf-8", "base64"]),
    truncated=st.booleans(),
)

# By CloudEvents type: a type that the codec knows and this table does not fails the tests that walk over all types.
STRATEGIES = {
    "headrace.job.generation.v1": generations,
    "headrace.job.evaluation.v1": evaluations,
    "headrace.job.embedding.v1": embeddings,
    "headrace.job.moderation.v1": moderations,
    "headrace.job.decision.v1": decisions,
    "headrace.job.tuning.v1": tunings,
    "headrace.job.cancel.v1": cancellations,
    "headrace.review.v1": reviews,
    "headrace.output.v1": outputs,
    "headrace.moderated.v1": moderated,
    "headrace.result.v1": results,
    "headrace.job.held.v1": jobs_held,
    "headrace.job.cancelled.v1": cancelled,
    "headrace.dead.v1": dead,
    "headrace.budget.reached.v1": st.builds(
        BudgetReached,
        tenant=tenants,
        key_id=st.none(),
        period=st.sampled_from(["day", "month", "ever"]),
        percent=st.sampled_from([50, 80, 100]),
        most=counts,
        spent=counts,
        reserved=counts,
        ends_at=maybe(times),
    ),
    "headrace.policy.switched.v1": st.builds(PolicySwitched, tenant=maybe(tenants), before=texts, version=texts),
    "headrace.policy.refused.v1": st.builds(PolicyRefused, version=texts, reason=texts),
    "headrace.breaker.opened.v1": st.builds(BreakerOpened, model=aliases, reason=texts, until=times),
    "headrace.breaker.closed.v1": st.builds(BreakerClosed, model=aliases, opened_at=times),
    "headrace.application.labelled.v1": st.builds(
        ApplicationLabelled,
        tenant=maybe(tenants),
        application=aliases,
        label=st.sampled_from(["production", "Next-1"]),
        number=counts,
        digest=texts,
        before=maybe(counts),
        who=texts,
        why=maybe(texts),
    ),
    "headrace.review.decided.v1": st.builds(
        ReviewDecided,
        item=filled,
        job_id=job_ids,
        tenant=tenants,
        rule=aliases,
        stage=maybe(names),
        action=st.sampled_from(["label", "release", "withhold", "correct"]),
        labels=st.lists(st.builds(ReviewedLabel, criterion=labels, value=units), max_size=2).map(tuple),
        corrected=maybe(texts),
        note=maybe(texts),
        who=filled,
        revision=counts,
        undone=st.booleans(),
    ),
}
