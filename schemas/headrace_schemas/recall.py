"""Fields of a job about cached answers, and the part of its receipt about the cache."""

from enum import StrEnum
from typing import Annotated

from pydantic import Field

from headrace_schemas.limits import INTEGRAL, ShortText
from headrace_schemas.model import OutgoingValue

SECONDS_OF_A_YEAR = 366 * 86_400.0


class CacheMode(StrEnum):
    """Cached answers that a job accepts: none, those to the very same request, also those to a question that differs
    in spaces, case or politeness alone, or also those to the same question in other words.
    """

    OFF = "off"
    EXACT = "exact"
    NORMALISED = "normalised"
    SEMANTIC = "semantic"


class CacheTier(StrEnum):
    """Origin of an answer: a model, an earlier answer to the same request, one that was being made at that moment, one
    to a question that differs in spaces, case or politeness alone, or one to the same question in other words.
    """

    NONE = "none"
    EXACT = "exact"
    COALESCED = "coalesced"
    NORMALISED = "normalised"
    SEMANTIC = "semantic"


class Verified(OutgoingValue):
    """A verifier's verdict about the question whose answer was served. The receipt's `cost` has its call, by model."""

    model: Annotated[str, Field(description="The verifier.")]
    provider: Annotated[
        str | None, Field(description="Whose machine read both questions; absent for a machine of the deployment.")
    ] = None
    value: Annotated[float, Field(ge=0, le=1, description="The probability that both questions ask the same.")]
    mass: Annotated[
        float | None,
        Field(ge=0, le=1, description="How much of the probability fell on yes and no, if it is known."),
    ] = None
    ms: Annotated[float, Field(ge=0, description="How long the verifier's call took, in milliseconds.")]


class Recall(OutgoingValue):
    """Result of the cache lookup, for a job that asked for it.

    Of an answer that was served: its age (s), the job that it was made for, and what was saved. For a job that was not
    served: the nearest question's similarity, and why it was refused. `threshold` is the similarity that was asked for.
    """

    tier: Annotated[CacheTier, Field(description="Where the answer came from.")] = CacheTier.NONE
    similarity: Annotated[float | None, Field(ge=-1, le=1, description="The cosine to the nearest known question.")] = (
        None
    )
    threshold: Annotated[
        float | None,
        Field(ge=-1, le=1, description="The least cosine at which an answer could be served at that moment."),
    ] = None
    refused: Annotated[
        ShortText | None, Field(description="Why the nearest known question does not count as the same.")
    ] = None
    verified: Annotated[Verified | None, Field(description="What the verifier said, if the deployment has one.")] = None
    age: Annotated[float | None, Field(ge=0, description="The age of the answer in seconds.")] = None
    first_job: Annotated[
        str | None, Field(min_length=36, max_length=36, description="The job for which the answer was made.")
    ] = None
    saved_tokens: Annotated[int, Field(ge=0, description="Tokens that no model had to write."), INTEGRAL] = 0
    saved_ms: Annotated[
        float, Field(ge=0, description="Model time that was saved: as long as the answer's group ran.")
    ] = 0.0
