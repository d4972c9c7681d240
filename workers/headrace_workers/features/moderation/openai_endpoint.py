"""Asks OpenAI's moderation endpoint, or another service that speaks like it, by HTTP."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from headrace_schemas.hazards import OF_OPENAI
from headrace_workers.features.moderation.detector import MAX_DETECTIONS, Detection, NoAnswer, with_part
from headrace_workers.features.moderation.segments import Part, stretches

if TYPE_CHECKING:
    import httpx

_REFUSES: Final = frozenset((401, 403, 404))
_INPUTS: Final = 32  # of one request
_LONGEST_ANSWER: Final = 4_000_000  # bytes
_PART: Final = 20_000  # characters of one input
_OVERLAP: Final = 500


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint: its address, its model, and the limit for an answer in seconds."""

    url: str
    model: str
    timeout: float
    key: str | None = field(default=None, repr=False)


class _Result(BaseModel):
    model_config = ConfigDict(extra="ignore")
    category_scores: dict[str, Annotated[float, Field(ge=0, le=1, allow_inf_nan=False)]]

    @field_validator("category_scores")
    @classmethod
    def _of_openai(cls, scores: dict[str, float]) -> dict[str, float]:
        """Return the scores. Raise ValueError where no known category is named: then nothing was moderated."""
        if scores.keys().isdisjoint(OF_OPENAI):
            raise ValueError("no category is known")
        return scores


class _Answer(BaseModel):
    model_config = ConfigDict(extra="ignore")
    results: list[_Result] = Field(max_length=_INPUTS)


class OpenAIDetector:
    """A detector of OpenAI's categories by a service. Raises where that gives no usable answer in time. Thread-safe."""

    name = "openai"
    reads_words = False
    categories = frozenset(OF_OPENAI)

    def __init__(self, endpoint: Endpoint, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._endpoint, self._monotonic = endpoint, monotonic
        self._client: httpx.Client | None = None
        self.version = with_part(endpoint.model)

    def detect(self, texts: Sequence[str]) -> list[list[Detection]]:
        """Return the scores of each text's parts by category; 0 means that nothing was found."""
        parts = [(at, part) for at, text in enumerate(texts) for part in stretches(len(text), _PART, _OVERLAP)]
        found: list[list[Detection]] = [[] for _ in texts]
        for first in range(0, len(parts), _INPUTS):
            some = parts[first : first + _INPUTS]
            answers = self._ask([texts[at][slice(*part)] for at, part in some])
            for (at, part), scores in zip(some, answers, strict=True):
                found[at] += _detections(part, scores)
        return [detections[:MAX_DETECTIONS] for detections in found]

    def _ask(self, inputs: Sequence[str]) -> list[dict[str, float]]:
        import httpx

        if self._client is None:
            self._client = httpx.Client(timeout=self._endpoint.timeout)
        headers = {"Authorization": f"Bearer {self._endpoint.key}"} if self._endpoint.key else {}
        body = {"model": self._endpoint.model, "input": list(inputs)}
        try:
            with self._client.stream("POST", self._endpoint.url, json=body, headers=headers) as response:
                content = b"".join(self._bounded(response.iter_bytes()))
        except httpx.HTTPError as error:
            raise NoAnswer(f"the moderation endpoint does not answer: {type(error).__name__}") from None
        if response.status_code != httpx.codes.OK:
            raise NoAnswer(
                f"the moderation endpoint answers {response.status_code}", passes=response.status_code not in _REFUSES
            )
        return _scores(content, len(inputs))

    def _bounded(self, chunks: Iterator[bytes]) -> Iterator[bytes]:
        """Yield the chunks. Raise NoAnswer where all together are too long, or take too long."""
        ends, size = self._monotonic() + self._endpoint.timeout, 0
        for chunk in chunks:
            size += len(chunk)
            if size > _LONGEST_ANSWER or self._monotonic() > ends:
                raise NoAnswer("the moderation endpoint's answer does not finish")
            yield chunk


def _scores(content: bytes, asked: int) -> list[dict[str, float]]:
    try:
        results = _Answer.model_validate(json.loads(content)).results
    except (ValueError, ValidationError, RecursionError):
        raise NoAnswer("the moderation endpoint's answer does not have OpenAI's format") from None
    if len(results) != asked:
        raise NoAnswer(f"the moderation endpoint answers {len(results)} texts of {asked}")
    return [result.category_scores for result in results]


def _detections(part: Part, scores: dict[str, float]) -> list[Detection]:
    """Return the findings of a part. A category that the service does not name is not found."""
    return [Detection(name, score, *part) for name in OF_OPENAI if (score := scores.get(name, 0.0)) > 0]
