"""Publish jobs. One producer for all transports: `Producer.from_env()` for Kafka, `MemoryProducer()` for tests."""

import uuid
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Self

from headrace_producers.arguments import (
    Deadline,
    Output,
    check_correlationid,
    check_event_id,
    check_traceparent,
    deadline_at,
    output_of,
    sampling_of,
    sequence_of,
    validated,
)
from headrace_producers.errors import InvalidJob
from headrace_producers.settings import KafkaSettings, ProducerSettings
from headrace_producers.sink import Record, RecordSink
from headrace_schemas import (
    CancelJob,
    Criterion,
    DecisionJob,
    EmbeddingJob,
    EvaluationJob,
    GenerationJob,
    Message,
    ModerationJob,
    Sampling,
    TuningJob,
)
from headrace_schemas.attributes import Filter
from headrace_schemas.callback import Callback
from headrace_schemas.codec import check_size, encode
from headrace_schemas.decision import Question
from headrace_schemas.envelope import Envelope
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.event_types import topic_for, type_of
from headrace_schemas.grounding import WithoutPassages
from headrace_schemas.job import AnyJob, Lane
from headrace_schemas.min_quality import MinQuality
from headrace_schemas.recall import CacheMode
from headrace_schemas.review import Review
from headrace_schemas.tool import Tool, ToolChoice
from headrace_schemas.tuning import Lora

FLUSH_SECONDS = 30.0


class Producer:
    """Client that sends jobs and returns their ids at once. Thread-safe: a web service shares one.

    Build one a process, after any fork. A record that the broker does not confirm is raised by the next `flush`
    or `close`; use it as a context manager, or call `close`, so that nothing is left in the buffer.
    """

    def __init__(
        self,
        sink: RecordSink,
        settings: ProducerSettings | None = None,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._sink = sink
        self._settings = settings or ProducerSettings()
        self._now = now

    @classmethod
    def from_env(cls, **kafka: Any) -> "Producer":
        """Return a producer for the Kafka that the environment names (see docs/reference/python-client.md).

        `kafka` goes to `KafkaSink`, for example `on_delivery`. Raises ConfigurationError, or Unavailable when the
        broker does not answer.
        """
        from headrace_producers.kafka import KafkaSink

        return Producer(KafkaSink(KafkaSettings.from_env(), **kafka), ProducerSettings.from_env())

    def generate(
        self,
        *,
        model: str | Sequence[str] | None = None,
        application: str | None = None,
        variables: Mapping[str, Any] | None = None,
        prompt: str | None = None,
        messages: Sequence[Message | Mapping[str, Any]] | None = None,
        sampling: Sampling | None = None,
        temperature: float | None = None,
        top_p: float | None = None,
        top_k: int | None = None,
        max_tokens: int | None = None,
        stop: Sequence[str] | None = None,
        seed: int | None = None,
        repetition_penalty: float | None = None,
        output: Output = None,
        tools: Sequence[Tool | Mapping[str, Any]] | None = None,
        tool_choice: ToolChoice | Mapping[str, str] | None = None,
        cache: CacheMode | str | None = None,
        max_age: float | None = None,
        screen: bool | None = None,
        knowledge: str | None = None,
        knowledge_filter: Filter | Mapping[str, Any] | None = None,
        without_passages: WithoutPassages | str | None = None,
        lane: Lane | str | None = None,
        priority: int | None = None,
        deadline: Deadline = None,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        metadata: Mapping[str, str] | None = None,
        callback: Callback | Mapping[str, Any] | None = None,
        criteria: Sequence[Criterion] | None = None,
        reference: str | None = None,
        other: str | None = None,
        min_quality: MinQuality | Mapping[str, Any] | None = None,
        traceparent: str | None = None,
        correlationid: str | None = None,
    ) -> str:
        """Ask a model for an answer, with either `prompt` or `messages`. Returns the job's id.

        Where `model` is a list, each model answers where those before it cannot. Instead of a model, name an
        `application`, such as `ticket-triage` or `ticket-triage@3`, with its `variables`; `prompt` or `messages` then
        follow its own messages.

        `output` is the format that the answer must have: a pydantic model, a JSON Schema, or an `OutputFormat` such as
        `ChoiceFormat(choices=("yes", "no"))`; read the answer with `receipt.parsed(Model)`. `tools` may be called as
        `tool_choice` says, and are not executed.

        `cache` says which earlier answers are good enough (off, exact, semantic), `max_age` how old they may be, in
        seconds. The answer is to rest on passages of the base `knowledge`, of those documents alone whose attributes
        `knowledge_filter` lets through; where nothing there is relevant, `without_passages` says what to do (abstain,
        answer). `screen` says whether the prompt is moderated before a model is run.

        `deadline` is a point in time with a zone, or a duration from now. The same tenant and idempotency key give
        the same job. `correlationid` is a name of your own, which every event about the job carries. `callback` says
        whom a webhook tells of the end, such as `{"url": "https://shop.example/hooks"}`. The answer is judged by
        `criteria`, some of which compare it with the `reference`, or with an `other` output; `min_quality` is a floor
        by one of them, such as `{"criterion": "json_valid", "value": 1, "then": "regenerate", "attempts": 2}`.
        Raises InvalidJob when a field is wrong, BufferFull when the broker is too slow.
        """
        keywords = {
            "temperature": temperature,
            "top_p": top_p,
            "top_k": top_k,
            "max_tokens": max_tokens,
            "stop": sequence_of(stop),
            "seed": seed,
            "repetition_penalty": repetition_penalty,
        }
        job = validated(
            GenerationJob,
            {
                "model": self._model(model, application),
                "application": application,
                "variables": variables,
                "prompt": prompt,
                "messages": sequence_of(messages),
                "sampling": sampling_of(sampling, keywords),
                "output": output_of(output),
                "tools": sequence_of(tools),
                "tool_choice": tool_choice,
                "cache": cache,
                "max_age": max_age,
                "screen": screen,
                "knowledge": knowledge,
                "knowledge_filter": knowledge_filter,
                "without_passages": without_passages,
                "min_quality": min_quality,
                **self._common(
                    lane=lane,
                    priority=priority,
                    deadline=deadline,
                    idempotency_key=idempotency_key,
                    tenant=tenant,
                    metadata=metadata,
                    callback=callback,
                ),
                **_judged(criteria, reference, other),
            },
        )
        return self.submit(job, traceparent=traceparent, correlationid=correlationid)

    def evaluate(
        self,
        *,
        input: str,
        output: str,
        criteria: Sequence[Criterion],
        reference: str | None = None,
        other: str | None = None,
        context: str | None = None,
        lane: Lane | str | None = None,
        priority: int | None = None,
        deadline: Deadline = None,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        metadata: Mapping[str, str] | None = None,
        callback: Callback | Mapping[str, Any] | None = None,
        traceparent: str | None = None,
        correlationid: str | None = None,
    ) -> str:
        """Ask the judge about an output that was made elsewhere. Returns the job's id; raises as `generate` does."""
        job = validated(
            EvaluationJob,
            {
                "input": input,
                "output": output,
                "context": context,
                **self._common(
                    lane=lane,
                    priority=priority,
                    deadline=deadline,
                    idempotency_key=idempotency_key,
                    tenant=tenant,
                    metadata=metadata,
                    callback=callback,
                ),
                **_judged(criteria, reference, other),
            },
        )
        return self.submit(job, traceparent=traceparent, correlationid=correlationid)

    def embed(
        self,
        *,
        input: str,
        model: str | None = None,
        dimensions: int | None = None,
        lane: Lane | str | None = None,
        priority: int | None = None,
        deadline: Deadline = None,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        metadata: Mapping[str, str] | None = None,
        callback: Callback | Mapping[str, Any] | None = None,
        traceparent: str | None = None,
        correlationid: str | None = None,
    ) -> str:
        """Ask for the vector of one text. Returns the job's id; raises as `generate` does.

        `model` is the deployment's embedder. With `dimensions` the vector is cut to so many, and has length 1 again.
        """
        job = validated(
            EmbeddingJob,
            {
                "model": model or self._settings.embedder,
                "input": input,
                "dimensions": dimensions,
                **self._common(
                    lane=lane,
                    priority=priority,
                    deadline=deadline,
                    idempotency_key=idempotency_key,
                    tenant=tenant,
                    metadata=metadata,
                    callback=callback,
                ),
            },
        )
        return self.submit(job, traceparent=traceparent, correlationid=correlationid)

    def moderate(
        self,
        *,
        input: str,
        lane: Lane | str | None = None,
        priority: int | None = None,
        deadline: Deadline = None,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        metadata: Mapping[str, str] | None = None,
        callback: Callback | Mapping[str, Any] | None = None,
        traceparent: str | None = None,
        correlationid: str | None = None,
    ) -> str:
        """Ask what moderation says about a text. Returns the job's id; raises as `generate` does."""
        job = validated(
            ModerationJob,
            {
                "input": input,
                **self._common(
                    lane=lane,
                    priority=priority,
                    deadline=deadline,
                    idempotency_key=idempotency_key,
                    tenant=tenant,
                    metadata=metadata,
                    callback=callback,
                ),
            },
        )
        return self.submit(job, traceparent=traceparent, correlationid=correlationid)

    def decide(
        self,
        questions: Sequence[Question | Mapping[str, Any]],
        *,
        model: str | Sequence[str] | None = None,
        input: str | None = None,
        messages: Sequence[Message | Mapping[str, Any]] | None = None,
        cache: CacheMode | str | None = None,
        max_age: float | None = None,
        screen: bool | None = None,
        fallback_on_refusal: bool | None = None,
        lane: Lane | str | None = None,
        priority: int | None = None,
        deadline: Deadline = None,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        metadata: Mapping[str, str] | None = None,
        callback: Callback | Mapping[str, Any] | None = None,
        traceparent: str | None = None,
        correlationid: str | None = None,
    ) -> str:
        """Ask a model questions about one input, which it answers with probabilities. Returns the job's id; raises as
        `generate` does.

        A question is a `Predicate`, a `Choice`, a `ScaleQuestion`, or its fields. `cache` and `max_age` are as of
        `generate`; only the very same request is served.
        """
        job = validated(
            DecisionJob,
            {
                "model": self._model(model, None),
                "input": input,
                "messages": sequence_of(messages),
                "questions": sequence_of(questions),
                "cache": cache,
                "max_age": max_age,
                "screen": screen,
                "fallback_on_refusal": fallback_on_refusal,
                **self._common(
                    lane=lane,
                    priority=priority,
                    deadline=deadline,
                    idempotency_key=idempotency_key,
                    tenant=tenant,
                    metadata=metadata,
                    callback=callback,
                ),
            },
        )
        return self.submit(job, traceparent=traceparent, correlationid=correlationid)

    def tune(
        self,
        *,
        training_file: str,
        model: str | None = None,
        validation_file: str | None = None,
        suffix: str | None = None,
        seed: int | None = None,
        epochs: int | None = None,
        batch_size: int | None = None,
        learning_rate_multiplier: float | None = None,
        lora: Lora | Mapping[str, Any] | None = None,
        quantizations: Sequence[str] | None = None,
        lane: Lane | str | None = None,
        priority: int | None = None,
        deadline: Deadline = None,
        idempotency_key: str | None = None,
        tenant: str | None = None,
        metadata: Mapping[str, str] | None = None,
        callback: Callback | Mapping[str, Any] | None = None,
        traceparent: str | None = None,
        correlationid: str | None = None,
    ) -> str:
        """Tune a model with the examples of an uploaded file. Returns the job's id; raises as `generate` does.

        The result has the aliases of the tuned model, one for each of the `quantizations`: `event.tuned.aliases`.
        """
        job = validated(
            TuningJob,
            {
                "model": self._model(model, None),
                "training_file": training_file,
                "validation_file": validation_file,
                "suffix": suffix,
                "seed": seed,
                "epochs": epochs,
                "batch_size": batch_size,
                "learning_rate_multiplier": learning_rate_multiplier,
                "lora": lora,
                "quantizations": sequence_of(quantizations),
                **self._common(
                    lane=lane,
                    priority=priority,
                    deadline=deadline,
                    idempotency_key=idempotency_key,
                    tenant=tenant,
                    metadata=metadata,
                    callback=callback,
                ),
            },
        )
        return self.submit(job, traceparent=traceparent, correlationid=correlationid)

    def submit(
        self,
        job: AnyJob,
        *,
        event_id: str | None = None,
        traceparent: str | None = None,
        correlationid: str | None = None,
    ) -> str:
        """Send a job that is built already, under its own tenant. Returns its id.

        To send again what may have been lost, give the same `event_id`: it is then the same event, and the same job.
        """
        event_id = check_event_id(event_id or str(uuid.uuid4()))
        job_id = job.job_id(event_id)
        self._send(job, job_id, event_id, job.deadline, traceparent, correlationid)
        return job_id

    def cancel(self, job_id: str, *, tenant: str | None = None, reason: str = "") -> None:
        """Ask for a job to be cancelled. It wins when it is taken before the job has ended."""
        event = validated(CancelJob, {"job_id": job_id, "tenant": tenant or self._settings.tenant, "reason": reason})
        self._send(event, job_id, str(uuid.uuid4()), None, None, None)

    def review(
        self,
        *,
        job_id: str,
        who: str,
        criterion: str | None = None,
        category: str | None = None,
        label: bool | None = None,
        score: float | None = None,
        when: datetime | None = None,
        probability: float | None = None,
        tenant: str | None = None,
        traceparent: str | None = None,
        correlationid: str | None = None,
    ) -> str:
        """Tell what a person says of a job's end: by a criterion or a category of moderation, yes or no (`label`), or
        how far (`score`, from 0 to 1). Returns the label's id, which is the same for the same label.

        `when` it was said is now, where it is left out. `probability` is that with which the job was drawn to be
        labelled. Raises InvalidJob when a field is wrong, BufferFull when the broker is too slow.
        """
        fields = {
            "job_id": job_id,
            "tenant": tenant or self._settings.tenant,
            "criterion": criterion,
            "category": category,
            "label": label,
            "score": score,
            "who": who,
            "when": when or self._now(),
            "probability": probability,
        }
        event = validated(Review, fields)
        self._send(event, event.job_id, str(uuid.uuid4()), None, traceparent, correlationid)
        return event.id

    def flush(self, timeout: float = FLUSH_SECONDS) -> None:
        """Wait until the broker has confirmed all that was sent before; DeliveryFailed lists what it has not."""
        self._sink.flush(timeout)

    def close(self, timeout: float = FLUSH_SECONDS) -> None:
        """Flush, then let go of the connection; DeliveryFailed as in `flush`. Closing twice does nothing."""
        self._sink.close(timeout)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _model(self, model: str | Sequence[str] | None, application: str | None) -> str | tuple[Any, ...] | None:
        if not model:
            return self._settings.model if application is None else None
        return model if isinstance(model, str) else sequence_of(model)

    def _common(
        self,
        *,
        lane: Lane | str | None,
        priority: int | None,
        deadline: Deadline,
        idempotency_key: str | None,
        tenant: str | None,
        metadata: Mapping[str, str] | None,
        callback: Callback | Mapping[str, Any] | None,
    ) -> dict[str, Any]:
        return {
            "lane": lane,
            "priority": priority,
            "deadline": deadline_at(deadline, self._now()),
            "idempotency_key": idempotency_key,
            "tenant": tenant or self._settings.tenant,
            "metadata": metadata,
            "callback": callback,
        }

    def _send(
        self,
        event: AnyJob | CancelJob | Review,
        job_id: str,
        event_id: str,
        deadline: datetime | None,
        traceparent: str | None,
        correlationid: str | None,
    ) -> None:
        envelope = Envelope(
            id=event_id,
            type=type_of(event),
            source=self._settings.source,
            time=self._now(),
            subject=job_id,
            partitionkey=job_id,
            traceparent=check_traceparent(traceparent),
            correlationid=check_correlationid(correlationid),
            expirytime=deadline,
        )
        headers, value = encode(event, envelope, given=True)
        try:
            check_size(value)
        except InvalidRecord as error:
            raise InvalidJob(str(error)) from None
        self._sink.send(Record(topic_for(event), job_id.encode(), headers, value, job_id))


def _judged(criteria: Sequence[Criterion] | None, reference: str | None, other: str | None) -> dict[str, Any]:
    return {"criteria": sequence_of(criteria), "reference": reference, "other": other}
