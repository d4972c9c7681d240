"""Events about models: one failed again and again and is not asked for a while, or it answers again."""

from typing import Annotated

from pydantic import Field

from headrace_schemas.limits import Alias, ShortText
from headrace_schemas.model import OutgoingValue
from headrace_schemas.times import Time


class BreakerOpened(OutgoingValue):
    """The circuit breaker of a model opened: nobody asks the model, but for one call now and then that tries.

    Jobs with another model go to that meanwhile; others wait.
    """

    model: Annotated[Alias, Field(description="The model.")]
    reason: Annotated[ShortText, Field(description="Of its last failure.")]
    until: Annotated[Time, Field(description="When the first such call may be made.")]


class BreakerClosed(OutgoingValue):
    """The circuit breaker of a model closed: the model answers again."""

    model: Annotated[Alias, Field(description="The model.")]
    opened_at: Annotated[Time, Field(description="When it opened.")]
