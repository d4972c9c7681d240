"""Recipients of webhooks, and the names of webhook events."""

from typing import Annotated, Final, Literal, Self

from pydantic import Field, model_validator

from headrace_schemas.limits import FAIL_FAST, EndpointId, Url
from headrace_schemas.model import Value

MAX_BODY: Final = 20_000  # bytes of a webhook's body, where the deployment says nothing else

BatchEvent = Literal["batch.completed", "batch.failed", "batch.expired", "batch.cancelled"]
JobEvent = Literal["job.completed", "job.failed", "job.cancelled", "job.held"]
JOB_ENDS: Final[tuple[JobEvent, ...]] = ("job.completed", "job.failed", "job.cancelled")
JOB_EVENTS: Final[tuple[JobEvent, ...]] = (*JOB_ENDS, "job.held")
BATCH_EVENTS: Final[tuple[BatchEvent, ...]] = ("batch.completed", "batch.failed", "batch.expired", "batch.cancelled")
RESPONSE_EVENTS: Final = ("response.completed", "response.failed", "response.cancelled", "response.incomplete")
EVAL_RUN_EVENTS: Final = ("eval.run.succeeded", "eval.run.failed", "eval.run.canceled")
TUNING_EVENTS: Final = ("fine_tuning.job.succeeded", "fine_tuning.job.failed", "fine_tuning.job.cancelled")
BUDGET_REACHED: Final = "budget.reached"
ENDPOINT_DISABLED: Final = "endpoint.disabled"
TEST: Final = "webhook.test"

# All that an endpoint may ask to hear of. What concerns responses, batches, evals and fine-tuning is called as OpenAI
# calls it.
WEBHOOK_EVENTS: Final[tuple[str, ...]] = (
    *JOB_EVENTS,
    *BATCH_EVENTS,
    *RESPONSE_EVENTS,
    *EVAL_RUN_EVENTS,
    *TUNING_EVENTS,
    BUDGET_REACHED,
    ENDPOINT_DISABLED,
)


class Recipient(Value):
    """Recipient of a webhook. Deliveries are signed with the secret of the tenant's callbacks, or with that of the
    registered endpoint that is named.
    """

    url: Annotated[Url | None, Field(description="The address to call: https, and a public host.")] = None
    endpoint: Annotated[EndpointId | None, Field(description="The id of a registered endpoint, instead of `url`.")] = (
        None
    )

    @model_validator(mode="after")
    def _one_place(self) -> Self:
        if self.url is not None and self.endpoint is not None:
            raise ValueError("both url and endpoint are given: a callback goes to one of them")
        if self.url is None and self.endpoint is None and self._needs_place:
            raise ValueError("neither url nor endpoint is given: a callback needs one of them")
        return self

    @property
    def _needs_place(self) -> bool:
        return True


class BatchCallback(Recipient):
    """Recipient of a webhook at the end of a batch."""

    events: Annotated[
        tuple[BatchEvent, ...],
        Field(max_length=len(BATCH_EVENTS), description="The ends to report. By default all."),
        FAIL_FAST,
    ] = ()

    @property
    def wanted(self) -> tuple[BatchEvent, ...]:
        """Return the ends that the recipient subscribes to."""
        return self.events or BATCH_EVENTS


class Callback(Recipient):
    """Recipient of a webhook at the end of this job. Deliveries are signed with the secret of the tenant's callbacks,
    or with that of the registered endpoint that is named. Endpoints that listen to all jobs need no callback.
    """

    events: Annotated[
        tuple[JobEvent, ...],
        Field(max_length=len(JOB_EVENTS), description="The ends to report. By default all."),
        FAIL_FAST,
    ] = ()
    response: Annotated[
        bool,
        Field(description="Report the job as a response of OpenAI's API, with events `response.*`."),
    ] = False

    @property
    def _needs_place(self) -> bool:
        return not self.response  # endpoints that subscribe to all jobs get it

    def as_response(self) -> Self:
        """Return the same callback, about a response of OpenAI's API."""
        return self.model_copy(update={"response": True})

    @property
    def wanted(self) -> tuple[JobEvent, ...]:
        """Return the events that the recipient subscribes to."""
        return self.events or JOB_ENDS
