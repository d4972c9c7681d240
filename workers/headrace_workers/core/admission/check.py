"""A feature's part of admission: what must be right about a job before it is taken in."""

from collections.abc import Collection, Sequence
from typing import Protocol

from headrace_schemas import Message
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.tool import NO_TOOLS, Offer
from headrace_workers.core.pipeline.task import Job

Named = tuple[str, str]  # the tenant, and the name of a resource of that tenant


class AdmissionCheck:
    """The check of one feature. A subclass overrides what it needs; instances are thread-safe."""

    def check(self, job: Job) -> None:
        """Raise the error of a job that cannot be run. Quick, since the gateway calls it on its event loop."""

    def is_doubtful(self, job: Job) -> bool:
        """Return True where `examine` may refuse the job. Quick, like `check`."""
        return False

    def examine(self, job: Job) -> int | None:
        """Do the checks that take time, and return the tokens of one answer with its prompt where they were counted.

        Raise the error of a job that cannot be run. Return None where this check counts no tokens of such a job.
        """
        return None

    def named(self, job: Job) -> Collection[str]:
        """Return the names of the resources that the job needs to exist."""
        return ()

    def unknown(self, named: Collection[Named]) -> Collection[Named]:
        """Ask the ledger once for all these resources, and return the missing ones. Raise Unavailable."""
        return ()

    def missing(self, named: Named) -> InvalidRecord:
        """Return the error of a job that names this resource, which does not exist."""
        raise NotImplementedError


class KnownModels(Protocol):
    """The models of a deployment, as far as admission asks about them."""

    def __contains__(self, alias: str) -> bool:
        """Return True where a model answers to this alias."""

    def aliases(self) -> list[str]:
        """Return all aliases in order, for messages."""

    def chain(self, name: str) -> tuple[str, ...] | None:
        """Return the models of the chain with this name; None where no chain has it."""

    def context_length(self, alias: str) -> int | None:
        """Return how many tokens prompt and answer may have together; None where the model is not here."""

    def provider(self, alias: str) -> str | None:
        """Return the provider whose machine runs the model; None for a machine of the deployment."""

    def lacks(self, alias: str) -> Collection[str]:
        """Return the sampling parameters that the model has not; none where the model is not here."""

    def knows_tools(self, alias: str) -> bool:
        """Return True if the model can be asked to choose whether to call a tool; False where it is not here."""

    def prompt_tokens(
        self, alias: str, messages: Sequence[Message], tenant: str, offer: Offer = NO_TOOLS
    ) -> int | None:
        """Return the tokens of a tenant's prompt, with the tools that its model is offered, by the model's own count.
        None where only a guess can be had.

        Raise what is wrong with the prompt, such as PromptTooLong.
        """

    @property
    def longest_mark(self) -> int:
        """Return how many bytes the model may see in addition to the conversation that it is sent."""


class KnownEmbedder(Protocol):
    """The embedder of a deployment, as far as admission asks about it."""

    @property
    def alias(self) -> str:
        """Return the name under which jobs ask for it."""

    def check(self, alias: str) -> None:
        """Raise UnknownModel where another embedder is asked for, or this one is not here. Quick."""

    def input_tokens(self, alias: str, text: str) -> int | None:
        """Return the tokens of a text as this embedder reads it, None where only a guess can be had.

        Raise UnknownModel where another embedder is asked for, or this one is not here, and InputTooLong.
        """
