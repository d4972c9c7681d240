"""Fields of a job about the documents that its answer rests on, and the part of its receipt about them."""

import re
from enum import StrEnum
from typing import Annotated, Final, Literal

from pydantic import Field

from headrace_schemas.attributes import Attributes
from headrace_schemas.limits import INTEGRAL, Alias, Name, ShortText
from headrace_schemas.model import OutgoingValue

MAX_UNKNOWN = 100

# A document that was put into a base as a file is called after it: `file-ID/NAME`.
FILE_DOCUMENT: Final = re.compile(r"(file-[A-Za-z0-9]{1,56})/(.+)", re.DOTALL)

Place = Annotated[int, Field(ge=0), INTEGRAL]
Number = Annotated[int, Field(ge=0), INTEGRAL]
Relevance = Annotated[float, Field(ge=-1, le=1)]


class WithoutPassages(StrEnum):
    """Action when no passage is relevant enough: run no model and say so, or answer from the model alone."""

    ABSTAIN = "abstain"
    ANSWER = "answer"


class Screening(OutgoingValue):
    """Action on a passage because of prompt injection, in a job whose prompt is screened.

    `allow`: nothing, also where a person let it pass. `block`: the model was not given it. `score` is the highest of
    what was found in it, 0 where that is nothing, and `policy` says by which policy.
    """

    action: Literal["allow", "block"]
    category: Literal["prompt_injection"] = "prompt_injection"
    score: Annotated[float, Field(ge=0, le=1)] = 0.0
    policy: ShortText | None = None


class LeftOut(OutgoingValue):
    """A passage that would have been given to the model: the document's text from `start` to `stop` (characters)."""

    document: ShortText
    section: ShortText = ""
    start: Place
    stop: Place
    chunk: ShortText
    relevance: Relevance
    screening: Screening


class Citation(OutgoingValue):
    """Passage [number] of the prompt: the document's text from `start` to `stop` (characters), under its headings.

    `cited` says whether the answer names the number. A passage that looks as if it gave a model orders is `suspicious`:
    a hint, with the reasons. `screening` is there where the job's prompt is screened. `attributes` are the document's.
    """

    number: Annotated[int, Field(ge=1), INTEGRAL]
    document: ShortText
    section: ShortText = ""
    start: Place
    stop: Place
    chunk: Annotated[ShortText, Field(description="The passage's id: the same while its words and section are.")]
    relevance: Relevance
    cited: bool = False
    suspicious: tuple[Name, ...] = ()
    screening: Screening | None = None
    attributes: Attributes = {}


class Grounding(OutgoingValue):
    """Passages that an answer rests on, in a job that named a knowledge base.

    `citations` are the passages that the model was given, in their order in the prompt. `unknown` are numbers that the
    answer cites and no passage has: the model made them up. Without passages, `reason` says why there are none.
    `left_out` are passages that screening kept from the model.
    """

    knowledge: Alias
    relevance: Annotated[
        Relevance | None, Field(description="Of the most relevant passage that was found, whether it was used or not.")
    ] = None
    floor: Annotated[Relevance, Field(description="The relevance that a passage needs to be used.")]
    citations: tuple[Citation, ...] = ()
    unknown: Annotated[tuple[Number, ...], Field(max_length=MAX_UNKNOWN)] = ()
    left_out: tuple[LeftOut, ...] = ()
    reason: ShortText | None = None
