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

    action: Annotated[Literal["allow", "block"], Field(description="`block`: the model did not see the passage.")]
    category: Annotated[Literal["prompt_injection"], Field(description="The category.")] = "prompt_injection"
    score: Annotated[float, Field(ge=0, le=1, description="How sure the detector is.")] = 0.0
    policy: Annotated[ShortText | None, Field(description="The version of the policy.")] = None


class LeftOut(OutgoingValue):
    """A passage that would have been given to the model: the document's text from `start` to `stop` (characters)."""

    document: Annotated[ShortText, Field(description="The document.")]
    section: Annotated[ShortText, Field(description="The headings above the passage.")] = ""
    start: Annotated[Place, Field(description="Where the passage begins.")]
    stop: Annotated[Place, Field(description="Where it ends.")]
    chunk: Annotated[ShortText, Field(description="The passage's id.")]
    relevance: Annotated[Relevance, Field(description="The relevance to the question.")]
    screening: Annotated[Screening, Field(description="Why it was left out.")]


class Citation(OutgoingValue):
    """Passage [number] of the prompt: the document's text from `start` to `stop` (characters), under its headings.

    `cited` says whether the answer names the number. A passage that looks as if it gave a model orders is `suspicious`:
    a hint, with the reasons. `screening` is there where the job's prompt is screened. `attributes` are the document's.
    """

    number: Annotated[int, Field(ge=1, description="The number in the prompt and in the answer."), INTEGRAL]
    document: Annotated[ShortText, Field(description="The document.")]
    section: Annotated[ShortText, Field(description="The headings above the passage.")] = ""
    start: Annotated[Place, Field(description="Where the passage begins.")]
    stop: Annotated[Place, Field(description="Where it ends.")]
    chunk: Annotated[
        ShortText, Field(description="The passage's id. It stays the same as long as its words and its section do.")
    ]
    relevance: Annotated[Relevance, Field(description="The relevance to the question.")]
    cited: Annotated[bool, Field(description="True if the answer cites the passage.")] = False
    suspicious: Annotated[
        tuple[Name, ...], Field(description="Patterns of orders that were found in the passage.")
    ] = ()
    screening: Annotated[Screening | None, Field(description="The screening of the passage.")] = None
    attributes: Attributes = {}


class Grounding(OutgoingValue):
    """Passages that an answer rests on, in a job that named a knowledge base.

    `citations` are the passages that the model was given, in their order in the prompt. `unknown` are numbers that the
    answer cites and no passage has: the model made them up. Without passages, `reason` says why there are none.
    `left_out` are passages that screening kept from the model.
    """

    knowledge: Annotated[Alias, Field(description="The knowledge base.")]
    relevance: Annotated[
        Relevance | None, Field(description="The relevance of the best passage that was found, used or not.")
    ] = None
    floor: Annotated[Relevance, Field(description="The least relevance of a passage that is used.")]
    citations: Annotated[tuple[Citation, ...], Field(description="The passages in the prompt.")] = ()
    unknown: Annotated[
        tuple[Number, ...], Field(max_length=MAX_UNKNOWN, description="Numbers in the answer that are no passage.")
    ] = ()
    left_out: Annotated[tuple[LeftOut, ...], Field(description="Passages that screening kept from the model.")] = ()
    reason: Annotated[ShortText | None, Field(description="Why there are no passages.")] = None
