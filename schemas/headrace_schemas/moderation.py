"""Verdict of moderation about a text, in the format of OpenAI's moderation answer, and its findings."""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import Field

from headrace_schemas.hazards import HAZARDS
from headrace_schemas.limits import INTEGRAL, HazardName, Name, ShortText
from headrace_schemas.model import OutgoingValue

Count = Annotated[int, Field(ge=0), INTEGRAL]
Unit = Annotated[float, Field(ge=0, le=1)]
Action = Literal["allow", "redact", "review", "block"]  # from the mildest to the strictest


class Finding(OutgoingValue):
    """A span of the text that a detector objected to. Offsets are in characters of the unmoderated text.

    `category` is what was found, as the policy names it: `email` is a kind of the verdict's `personal_data`.
    """

    category: Annotated[HazardName, Field(description="The category.")]
    detector: Annotated[Name, Field(description="The detector.")]
    score: Annotated[Unit, Field(description="How sure the detector is.")]
    start: Annotated[Count, Field(description="Where the span begins.")]
    end: Annotated[Count, Field(description="Where it ends.")]
    action: Annotated[Action, Field(description="The action that the policy names.")]


def _not_allowed(told: Mapping[str, Any]) -> bool:
    return told.get("action") != "allow"


class ModerationVerdict(OutgoingValue):
    """Decision of moderation: the strictest action of its findings. `flagged` is any but `allow`.

    What is to be reviewed is held until a person has decided. Where that person let it pass, `flagged` stays, and
    `action` is what was done. Only the verdict about a text of one's own may say `review`.

    `categories` and `category_scores` name the categories that a detector looked for, and no others: one that is absent
    was not looked for, which says nothing about the text. A score is the highest of any span, 0 where there is none.
    """

    action: Annotated[Action, Field(description="The strictest action of all findings.")]
    flagged: Annotated[bool, Field(default_factory=_not_allowed, description="True if it is not `allow`.")]
    categories: Annotated[
        dict[HazardName, bool], Field(description="For each category that was checked: whether it was found.")
    ] = {}
    category_scores: Annotated[
        dict[HazardName, Unit],
        Field(description="For each category that was checked: the highest score of its detector."),
    ] = {}
    findings: Annotated[tuple[Finding, ...], Field(max_length=1000, description="The spans that were found.")] = ()
    detectors: Annotated[
        dict[Name, ShortText],
        Field(description="The detectors that ran, with their versions. Another version may decide otherwise."),
    ] = {}
    reason: Annotated[
        ShortText | None,
        Field(description="Why an answer is withheld that would be redacted: it would lose the format of its job."),
    ] = None
    policy: Annotated[ShortText | None, Field(description="The version of the policy: a digest of its content.")] = None

    @property
    def not_covered(self) -> tuple[str, ...]:
        """Return the categories of headrace that nobody looked for."""
        return tuple(hazard.name for hazard in HAZARDS if hazard.name not in self.categories)
