"""Fields of a job about cached answers, and the part of its receipt about the cache."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from headrace_schemas.limits import INTEGRAL, ShortText
from headrace_schemas.model import OutgoingValue

SECONDS_OF_A_YEAR = 366 * 86_400.0


class CacheMode(StrEnum):
    """Cached answers that a job accepts: none, those to the very same request, or also those to the same question in
    other words.
    """

    OFF = "off"
    EXACT = "exact"
    SEMANTIC = "semantic"


class CacheTier(StrEnum):
    """Origin of an answer: a model, an earlier answer to the same request, one that was being made at that moment, or
    one to the same question in other words.
    """

    NONE = "none"
    EXACT = "exact"
    COALESCED = "coalesced"
    SEMANTIC = "semantic"


class Recall(OutgoingValue):
    """Result of the cache lookup, for a job that asked for it.

    Of an answer that was served: its age (s), the job that it was made for, and what was saved. Of one that was not:
    the nearest question's similarity, and why that was refused. `threshold` is the similarity that was asked for.
    """

    tier: CacheTier = CacheTier.NONE
    similarity: Annotated[float | None, Field(ge=-1, le=1, description="Cosine to the nearest known question.")] = None
    threshold: Annotated[
        float | None, Field(ge=-1, le=1, description="Cosine from which on an answer might be given at that moment.")
    ] = None
    refused: Annotated[ShortText | None, Field(description="Why the nearest known question was not the same.")] = None
    age: Annotated[float | None, Field(ge=0, description="Seconds since the answer was made.")] = None
    first_job: Annotated[str | None, Field(min_length=36, max_length=36, description="Whom it was made for.")] = None
    saved_tokens: Annotated[int, Field(ge=0), INTEGRAL] = 0
    saved_ms: Annotated[float, Field(ge=0, description="Of a model's time, as the group took that made it.")] = 0.0
