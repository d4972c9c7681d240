from collections.abc import Sequence
from datetime import UTC, datetime

import numpy as np
import pytest

from headrace_schemas import Category, EmbeddingJob, GenerationJob, Result, Usage
from headrace_schemas.errors import Unavailable
from headrace_workers.core.ledger.outcome import Dead, Ended, Outcome, Retry
from headrace_workers.core.pipeline.stage import run_isolated
from headrace_workers.core.pipeline.task import Task
from headrace_workers.features.knowledge.stage import embed
from headrace_workers.testing import HashEmbedder

NOW = datetime(2026, 1, 1, tzinfo=UTC)
HASH = HashEmbedder()


class Listening(HashEmbedder):
    """It remembers what it was asked, and adds two tokens to each text."""

    added_tokens = 2

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[list[str]] = []

    def embed(self, texts: Sequence[str]) -> "np.ndarray":
        self.calls.append(list(texts))
        return super().embed(texts)


def task(job: EmbeddingJob | GenerationJob, place: int = 0) -> Task:
    return Task(f"6f1d8a52-5d0c-5c39-9a53-0d1f6f6c7f1{place}", job, job, NOW)


def asked(text: str = "a mill", **fields: object) -> Task:
    return task(EmbeddingJob.model_validate({"model": "hash", "input": text, **fields}))


def done(*tasks: Task, embedder: HashEmbedder = HASH) -> list[Outcome]:
    return embed(tasks, embedder=lambda: embedder, embedder_alias="hash")


def receipt(outcome: Outcome) -> Result:
    assert isinstance(outcome, Ended)
    assert isinstance(outcome.event, Result)
    return outcome.event


def test_the_receipt_has_the_vector_and_nothing_that_an_answer_would_have() -> None:
    (outcome,) = done(asked(tenant="shop", idempotency_key="k", metadata={"a": "b"}), embedder=Listening())
    result = receipt(outcome)
    assert (result.status, result.kind, result.tenant, result.idempotency_key) == (
        "completed", "embedding", "shop", "k",
    )  # fmt: skip
    assert (result.metadata, result.accepted_at) == ({"a": "b"}, NOW)
    assert (result.answer, result.moderation, result.judge.scores) == (None, None, ())
    made = result.embedding
    assert made is not None
    assert made.floats == tuple(HASH.embed(["a mill"])[0].tolist())
    assert (made.model, made.embedder, made.dimensions) == ("hash", HASH.id, 64)
    assert made.usage == Usage(prompt_tokens=4, completion_tokens=0)


@pytest.mark.parametrize("dimensions", [1, 48, 64])
def test_a_vector_is_cut_and_has_length_1_again(dimensions: int) -> None:
    made = receipt(done(asked(dimensions=dimensions))[0]).embedding
    assert made is not None
    assert made.dimensions == len(made.floats) == dimensions
    assert np.linalg.norm(made.floats) == pytest.approx(1.0)
    whole = HASH.embed(["a mill"])[0][:dimensions]
    np.testing.assert_allclose(made.floats, whole / np.linalg.norm(whole), atol=1e-6)


@pytest.mark.parametrize(
    ("job", "category", "reason"),
    [
        (asked(dimensions=65), Category.INVALID, "dimensions is 65, and vectors of hash have 64"),
        (asked("mill " * 255), Category.INVALID, "the input has 257 tokens, and hash reads 256 at most"),
        (asked(model="other"), Category.INVALID, "no embedder is called 'other' here; there is: hash"),
        (
            task(GenerationJob(model="m", prompt="p")), Category.PERMANENT,
            "embedding takes embedding jobs, not GenerationJob",
        ),
    ],
    ids=["dimensions", "length", "model", "kind"],
)  # fmt: skip
def test_what_cannot_be_done_is_refused_and_holds_up_nobody(job: Task, category: Category, reason: str) -> None:
    """A text that is too long is never cut; the others of its group are embedded in one call."""
    model = Listening()
    outcomes = done(asked("first"), job, asked("mill " * 254), embedder=model)
    assert isinstance(outcomes[1], Dead)
    assert outcomes[1].category is category
    assert reason in outcomes[1].reason
    assert model.calls == [["first", "mill " * 254]]
    for place, text in ((0, "first"), (2, "mill " * 254)):
        made = receipt(outcomes[place]).embedding
        assert made is not None
        assert made.floats == tuple(HASH.embed([text])[0].tolist())


def test_where_nothing_fits_nothing_is_embedded() -> None:
    model = Listening()
    done(asked(dimensions=65), embedder=model)
    assert model.calls == []
    assert embed([], embedder=lambda: 1 / 0, embedder_alias="hash") == []  # type: ignore[arg-type,return-value]


def test_without_an_embedder_jobs_are_tried_again() -> None:
    def lacking() -> HashEmbedder:
        raise Unavailable("this worker has none")

    tasks = [asked(), asked("b")]
    outcomes = run_isolated(lambda group: embed(group, embedder=lacking, embedder_alias="hash"), tasks)
    assert outcomes == [Retry("this worker has none")] * 2
