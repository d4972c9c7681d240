"""Review items and decisions as HTTP and `--json` show them."""

from typing import TYPE_CHECKING, Any, Literal, Self

from pydantic import BaseModel, Field

from headrace_schemas import Message, ModerationVerdict
from headrace_schemas.events import Score
from headrace_schemas.grounding import Citation
from headrace_schemas.tool import ToolCall
from headrace_workers.cli.durations import Moment
from headrace_workers.features.reviews.decision import GivenLabel

if TYPE_CHECKING:
    from headrace_workers.features.reviews.item_texts import Shown
    from headrace_workers.features.reviews.store import Decided, Item, ItemRow, Recorded


class ReviewItem(BaseModel):
    """A review item without its texts. `held` items ask what becomes of a held job; the others are about an answer."""

    object: Literal["review_item"] = "review_item"
    id: str
    job_id: str
    application: str | None = Field(description="The application of the job, with its version.")
    held: bool
    stage: str | None = Field(description="The stage at which the job was held.")
    state: Literal["open", "done", "gone"] = Field(description="`gone`: nothing can be decided about it any more.")
    reason: str | None = Field(description="Why it is gone.")
    rule: str | None = Field(description="The rule that drew it; null while the machine's verdict is hidden from you.")
    probability: float | None = Field(
        description="The probability with which it was drawn; null where `rule` is, or where a person chose it."
    )
    wanted: int = Field(description="How many people review it.")
    decided: int = Field(description="How many people have decided.")
    made_at: Moment
    ended_at: Moment

    @classmethod
    def of(cls, row: "ItemRow") -> "ReviewItem":
        """Return the view of an item."""
        return ReviewItem(**_fields(row))


class RecordedDecision(BaseModel):
    """A person's newest decision about an item. `action` is `undo` where they took it back."""

    who: str
    revision: int = Field(description="1 for the person's first decision about the item.")
    action: Literal["label", "release", "withhold", "correct", "undo"]
    labels: list[GivenLabel]
    corrected: str | None
    recall: bool
    note: str | None
    decided_at: Moment

    @classmethod
    def of(cls, recorded: "Recorded") -> Self:
        """Return the view of a decision."""
        said = recorded.decision
        return cls(
            who=recorded.who,
            revision=recorded.revision,
            action=recorded.action,
            labels=[] if said is None else list(said.labels),
            corrected=None if said is None else said.corrected,
            recall=said is not None and said.recall,
            note=None if said is None else said.note,
            decided_at=recorded.decided_at,
        )


class AskedCriterion(BaseModel):
    """A criterion by which you are asked to label the answer."""

    name: str
    kind: str
    question: str | None


class Asks(BaseModel):
    """The labels that an item asks for."""

    criteria: list[AskedCriterion]
    categories: list[str] = Field(description="Categories of moderation that a detector found.")


class ShownItem(ReviewItem):
    """A review item with its texts. While you have not decided about an ended answer, its scores and the verdict of
    moderation are hidden. All texts are null where the job was forgotten.
    """

    lease: int | None = Field(description="The number of your lease, which your decision names.")
    until: Moment = Field(description="When your lease ends.")
    messages: list[Message] = Field(description="The conversation as the model read it.")
    context: str | None = Field(description="The text on which the output of an evaluation job rests.")
    answer: str | None
    tool_calls: list[ToolCall]
    citations: list[Citation] = Field(description="The passages on which the answer rests.")
    held_for: str | None = Field(description="What is asked about a held job.")
    verdict: ModerationVerdict | None = Field(description="The verdict of moderation. Spans are in characters.")
    verdict_text: str | None = Field(description="The text that the verdict's spans are in, if it is not the answer.")
    scores: list[Score]
    asks: Asks
    mine: RecordedDecision | None = Field(description="Your newest decision about it.")

    @classmethod
    def seen(cls, item: "Item", *, for_tool: bool = False) -> Self:
        """Return an item as a person sees it; `for_tool` as another tool gets it, which keeps the probability."""
        # A rule's name, such as `low`, may say what machines said.
        hidden: dict[str, Any] = {"rule": None, "probability": None} if item.is_blind and not for_tool else {}
        return cls(
            **_fields(item.row) | hidden,
            lease=item.lease,
            until=item.until,
            mine=None if item.mine is None else RecordedDecision.of(item.mine),
            **_texts(item.shown),
        )


class ReviewedItem(ReviewItem):
    """A review item about which you have decided."""

    decision: RecordedDecision

    @classmethod
    def with_decision(cls, row: "ItemRow", recorded: "Recorded") -> Self:
        """Return the view of an item and the newest decision about it."""
        return cls(**_fields(row), decision=RecordedDecision.of(recorded))

    @classmethod
    def by(cls, decided: "Decided") -> Self:
        """Return the view of an item about which a person has just decided."""
        return cls.with_decision(decided.item, decided.recorded)


def _fields(row: "ItemRow") -> dict[str, Any]:
    names = ReviewItem.model_fields.keys() - {"object"}
    return {name: getattr(row, name) for name in names} | {"probability": row.probability or None}


def _texts(texts: "Shown | None") -> dict[str, Any]:
    if texts is None:
        return {
            "messages": [], "context": None, "answer": None, "tool_calls": [], "citations": [], "held_for": None,
            "verdict": None, "verdict_text": None, "scores": [], "asks": Asks(criteria=[], categories=[]),
        }  # fmt: skip
    return {
        "messages": list(texts.turns),
        "context": texts.context,
        "answer": texts.answer,
        "tool_calls": list(texts.tool_calls),
        "citations": list(texts.citations),
        "held_for": texts.reason,
        "verdict": texts.verdict,
        "verdict_text": texts.of_text,
        "scores": list(texts.scores),
        "asks": Asks(
            criteria=[AskedCriterion(**criterion._asdict()) for criterion in texts.criteria],
            categories=list(texts.categories),
        ),
    }
