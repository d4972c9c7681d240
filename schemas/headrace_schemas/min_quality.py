"""A floor under an answer's quality: the job's request for it, and the outcome in the receipt."""

from typing import Annotated, Final, Literal

from pydantic import Field

from headrace_schemas.limits import INTEGRAL, MAX_CHAIN, Label, ShortText
from headrace_schemas.model import OutgoingValue, Value
from headrace_schemas.moderation import Unit
from headrace_schemas.not_judged import NotJudged

MAX_ATTEMPTS: Final = 3


class MinQuality(Value):
    """The least score by one of the job's criteria, and what becomes of an answer below it.

    `regenerate`: the model is asked again, with its answer and what is wrong with it in words, `attempts` times at
    most; of all answers the best goes out. `next`: the next model of the job's chain is asked instead, and so on; of
    all answers the best goes out. `hold`: a person decides whether it does, also where it could not be
    judged. `accept`: it goes out. The receipt tells it in each case. With the other two an answer that could not be
    judged goes out.
    """

    criterion: Annotated[
        Label, Field(description="The criterion: its name, or its kind if it has no name. It must judge all jobs.")
    ]
    value: Annotated[float, Field(gt=0, le=1, description="The least score.")]
    then: Annotated[
        Literal["regenerate", "next", "hold", "accept"], Field(description="What happens to an answer below it.")
    ] = "regenerate"
    attempts: Annotated[
        int, Field(ge=1, le=MAX_ATTEMPTS, description="How often the model is asked again at most."), INTEGRAL
    ] = 1


class Attempt(OutgoingValue):
    """An answer of a job with its score by the criterion, or the reason why it has none."""

    value: Annotated[Unit | None, Field(description="The score.")] = None
    not_judged: Annotated[NotJudged | None, Field(description="Why there is no score.")] = None


class QualityFloor(OutgoingValue):
    """Outcome of a job's minimum quality. `met` and `below` describe the answer that was published: the `chosen`
    attempt.
    """

    criterion: Annotated[Label, Field(description="The criterion.")]
    floor: Annotated[Unit, Field(description="The least score that the job asked for.")]
    outcome: Annotated[
        Literal["met", "below", "not_judged"], Field(description="How the published answer compares with it.")
    ]
    attempts: Annotated[
        tuple[Attempt, ...],
        Field(max_length=MAX_CHAIN, description="The scores of all answers, in the order in which they were made."),
    ]
    chosen: Annotated[
        int, Field(ge=1, description="The number of the answer that was published, counted from 1."), INTEGRAL
    ]
    note: Annotated[ShortText | None, Field(description="Why no more answers were made, if something went wrong.")] = (
        None
    )
