"""Records as producers write them, good and bad."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import uuid4

from headrace_schemas import (
    CancelJob,
    DecisionJob,
    EmbeddingJob,
    Envelope,
    EvaluationJob,
    ExactMatch,
    GenerationJob,
    Message,
    ModerationJob,
    Predicate,
)
from headrace_schemas.codec import encode
from headrace_schemas.errors import InputTooLong, PromptTooLong, UnknownModel
from headrace_schemas.event_types import Event, topic_for, type_of
from headrace_schemas.review import Review
from headrace_schemas.tool import Tool
from headrace_workers.core.admission import AdmissionParts, AdmissionRules, KnownModels, admission_rules
from headrace_workers.core.ledger.dead_letters import Record
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.pipeline.routing import Pipeline
from headrace_workers.features.webhooks.settings import HttpUse, WebhookSettings
from headrace_workers.features.webhooks.targets import Reach
from headrace_workers.models.engines.prompts import InvalidTemplate
from headrace_workers.runtime.bridge.record_admission import Accepted, RecordAdmission

NOW = 1_800_000_000_000  # ms: what the ledger's clock shows


class Models:
    """The models there are: `echo` and `other`."""

    longest_mark = 0

    def knows(self, alias: str, tenant: str) -> bool:
        return alias in self.aliases(tenant)

    def aliases(self, tenant: str) -> list[str]:
        return ["echo", "other"]

    def chain(self, name: str) -> tuple[str, ...] | None:
        return ("echo", "other") if name == "careful" else None

    def context_length(self, alias: str) -> int | None:
        """As `prompt_tokens` counts: a message of `other` has 1,000."""
        return 3_000

    def provider(self, alias: str) -> str | None:
        return None

    def lacks(self, alias: str) -> frozenset[str]:
        return frozenset({"seed"} if alias == "other" else ())

    def knows_tools(self, alias: str) -> bool:
        return alias == "other"

    def prompt_tokens(
        self, alias: str, messages: Sequence[Message], tenant: str, tools: Sequence[Tool] = ()
    ) -> int | None:
        """A guess for `echo`; `other` counts 1,000 a message, holds 3,000, and refuses a word in its template."""
        if alias == "echo":
            return None
        if any("unspeakable" in message.content for message in messages):
            raise InvalidTemplate("the model's chat template refuses these messages: no")
        if len(messages) > 3:
            raise PromptTooLong(f"the prompt has {len(messages)}000 tokens, and the context of other holds 3000")
        return 1_000 * len(messages)


class Embedder:
    """The embedder `vectors`, which guesses how long a text is, and refuses one word."""

    alias = "vectors"

    def check(self, alias: str) -> None:
        if alias != "vectors":
            raise UnknownModel(f"no embedder is called {alias!r}; there is: vectors")

    def input_tokens(self, alias: str, text: str) -> int | None:
        """A guess; three words are three tokens."""
        self.check(alias)
        if text == "endless":
            raise InputTooLong("the input has 257 tokens, and vectors reads 256 at most")
        return 3 if text == "three whole words" else None


def rules_of(ledger: Ledger, reach: Reach | None = None, models: KnownModels | None = None) -> AdmissionRules:
    """The rules of a deployment with these models, the embedder above, and what the ledger knows."""
    may_go = reach or Reach()
    settings = WebhookSettings(
        webhook_networks=may_go.networks,
        webhook_ports=may_go.ports,
        webhook_http=HttpUse.LOOPBACK if may_go.http_loopback else HttpUse.NEVER,
    )
    return admission_rules(
        AdmissionParts(
            ledger=ledger,
            pipeline=Pipeline(),
            models=models or Models(),
            embedder=Embedder(),
            settings=_Given(settings),
            home=Path("nowhere"),
        )
    )


class _Given:
    def __init__(self, webhooks: WebhookSettings) -> None:
        self._webhooks = webhooks

    def of(self, kind: Any) -> Any:
        return self._webhooks if kind is WebhookSettings else kind()


class _NoResources:
    """A ledger of which nothing is asked but what jobs name: all of that exists. Its files are empty."""

    size = 0

    def of(self, _store: type) -> Any:
        return self

    def unknown(self, _named: Any) -> frozenset[Any]:
        return frozenset()

    def file(self, _file_id: str, _tenant: str) -> object:
        return self

    def find(self, _wanted: Any) -> dict[Any, Any]:
        """No application has one of these names."""
        return {}


ALL_EXISTS: Any = _NoResources()
RULES = rules_of(ALL_EXISTS)


def accept(sent: Record, rules: AdmissionRules = RULES) -> Accepted:
    return RecordAdmission(rules, NOW).admit(sent)


def generation(**fields: Any) -> GenerationJob:
    return GenerationJob(**{"model": "echo", "prompt": "a b c", **fields})


def evaluation(**fields: Any) -> EvaluationJob:
    return EvaluationJob(**{"input": "a", "output": "b", "reference": "b", "criteria": (ExactMatch(),), **fields})


def embedding(**fields: Any) -> EmbeddingJob:
    return EmbeddingJob(**{"model": "vectors", "input": "a b c", **fields})


def moderation(**fields: Any) -> ModerationJob:
    return ModerationJob(**{"input": "a b c", **fields})


def decision(**fields: Any) -> DecisionJob:
    asked = (Predicate(type="predicate", instructions="Is it late?"),)
    return DecisionJob(**{"model": "echo", "input": "a b c", "questions": asked, **fields})


def envelope_of(event: Event, **fields: Any) -> Envelope:
    """An envelope with an id of its own."""
    known = {"id": str(uuid4()), "type": type_of(event), "source": "/tests", "time": datetime.now(UTC)}
    return Envelope(**(known | fields))


def wire(event: Event, **fields: Any) -> tuple[list[tuple[str, bytes]], bytes]:
    """Headers and value of an event; fields go into the envelope."""
    return encode(event, envelope_of(event, **fields))


def record(event: Event | None = None, /, **changes: Any) -> Record:
    """A consumed record of an event, with parts of it changed: `headers`, `value`, `topic`, `offset`."""
    event = event or generation()
    headers, value = wire(event)
    known = {"topic": topic_for(event), "partition": 0, "offset": 0, "headers": tuple(headers), "value": value}
    return Record(**(known | changes))


def without(headers: tuple[tuple[str, Any], ...], name: str) -> tuple[tuple[str, Any], ...]:
    return tuple(pair for pair in headers if pair[0] != name)


def replaced(headers: tuple[tuple[str, Any], ...], name: str, value: bytes | None) -> tuple[tuple[str, Any], ...]:
    return (*without(headers, name), (name, value))


def review(job_id: str, **fields: Any) -> Review:
    said = {"criterion": "right", "label": True, "who": "ann", "when": datetime(2026, 1, 31, 12, tzinfo=UTC)}
    return Review(job_id=job_id, **(said | fields))


def cancel(job_id: str, **fields: Any) -> CancelJob:
    return CancelJob(job_id=job_id, **fields)
