"""POST /v1/embeddings: each input is a job of its own, and all of them one answer."""

from collections.abc import Sequence
from typing import Any, Final

from headrace_schemas import Embedding, EmbeddingJob
from headrace_workers.features.generation.openai.generation import receipt
from headrace_workers.features.generation.openai.request import (
    OF_ANY,
    WISHES,
    Body,
    OpenAIRequest,
    RequestContext,
    build,
    shared_fields,
    texts_of,
)
from headrace_workers.http.openai import End, Parameters, answered, unsupported

MAX_INPUTS: Final = 2048  # OpenAI's own bound

PARAMETERS: Final = Parameters(
    works=frozenset({"input", "model", "dimensions", "encoding_format", "user", WISHES}),
    options=OF_ANY,
)

_FORMATS: Final = ("float", "base64")


def read(body: Body, asker: RequestContext) -> OpenAIRequest:
    """Return a job for each input, and how their ends are told. Refused names what cannot be had."""
    asked = PARAMETERS.given(body)
    encoding = asked.get("encoding_format", "float")
    if encoding not in _FORMATS:
        raise unsupported("encoding_format", f"must be {' or '.join(_FORMATS)}")
    inputs = texts_of(asked, "input", MAX_INPUTS)
    shared: dict[str, Any] = {
        **shared_fields(asked, asker, OF_ANY),
        **{name: asked[name] for name in ("model", "dimensions") if name in asked},
    }
    jobs = tuple(
        build(
            EmbeddingJob,
            {**shared, "input": text},
            asker,
            {"model": "model", "dimensions": "dimensions", "input": path, "idempotency_key": "Idempotency-Key"},
            "" if len(inputs) == 1 else f"/{index}",
        )
        for index, (path, text) in enumerate(inputs)
    )

    def answer(ends: Sequence[End]) -> dict[str, Any]:
        results = answered(ends, "embedding")
        vectors = [result.embedding for result in results if result.embedding is not None]
        tokens = sum(vector.usage.prompt_tokens for vector in vectors)
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "index": index, "embedding": _encoded(vector, encoding)}
                for index, vector in enumerate(vectors)
            ],
            "model": vectors[0].model,
            "usage": {"prompt_tokens": tokens, "total_tokens": tokens},
            WISHES: [receipt(result) for result in results],
        }

    return OpenAIRequest(jobs, answer)


def _encoded(vector: Embedding, encoding: str) -> str | list[float]:
    """Return the vector as 32-bit floats, little-endian, in base64; or as numbers."""
    return vector.vector if encoding == "base64" else list(vector.floats)
