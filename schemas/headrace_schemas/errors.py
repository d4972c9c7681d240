"""The root of all errors of headrace. An error carries a category, and the category decides about a retry."""

from enum import StrEnum
from typing import TYPE_CHECKING, ClassVar

if TYPE_CHECKING:
    from headrace_schemas.events import Usage
    from headrace_schemas.output_format import Failure


class Category(StrEnum):
    """Reason why something failed; it decides what happens next."""

    INVALID = "invalid"  # the record itself is wrong: refused at the door, or where its worker alone can tell
    CONFLICT = "conflict"  # another record under the same key, or another tenant's job: what was there first holds
    QUOTA = "quota"  # its tenant has used up what it may for now: refused at the door
    EXPIRED = "expired"  # the deadline passed before an answer was there
    PERMANENT = "permanent"  # running it again would fail again
    TRANSIENT = "transient"  # running it again may help: retried with full jitter
    REROUTABLE = "reroutable"  # another model may answer it
    POISON = "poison"  # the worker died on it, alone, again and again

    @property
    def retryable(self) -> bool:
        """Return True if the same step may be run again in the hope of another outcome."""
        return self in (Category.TRANSIENT, Category.REROUTABLE)


class EndCode(StrEnum):
    """Reason of a job's end that its sender can act on. The category says only what headrace did about it."""

    CONTEXT_LENGTH = "context_length_exceeded"  # the prompt is too long for the model
    BAD_REQUEST = "bad_request"  # the provider does not take such a request
    CONTENT_POLICY = "content_policy"  # the provider's policy withheld the answer
    NO_MODEL = "no_model_answered"  # no model of the job answered for now: another job may be answered later


class HeadraceError(Exception):
    """Root of all errors that headrace raises on purpose. The message says what is wrong, where, and what to do.

    `param` names the field that is at fault, where it is one: `sampling.top_k`. `code` says what is wrong with it, in
    OpenAI's words: `missing_required_parameter`, `unknown_parameter` or `invalid_value`. `billed` says that a call of a
    model failed for which its provider may want money all the same. A job that ends with the error has the `end_code`.
    A message that quotes another party, such as a provider that quotes a prompt, is for its own job alone: logs and
    other tenants are told the `shared` one.
    """

    category: ClassVar[Category] = Category.PERMANENT
    end_code: ClassVar[EndCode | None] = None
    param: str | None = None
    code: str | None = None
    billed: bool = False
    shared: str | None = None


class InvalidRecord(HeadraceError):
    """A record on a topic that cannot be accepted: it is not what the contract says."""

    category = Category.INVALID

    def __init__(self, message: str, *, param: str | None = None, code: str | None = None) -> None:
        super().__init__(message)
        self.param = param
        self.code = code


class DeadlinePassed(InvalidRecord):
    """A job that came after its own deadline."""

    category = Category.EXPIRED


class UnknownResource(InvalidRecord):
    """A job that names a resource which its tenant does not have."""


class ProviderNotAllowed(InvalidRecord):
    """A job that would show its text to a provider of models that its tenant does not allow. Nobody saw the text."""

    def __init__(self, message: str) -> None:
        super().__init__(message, param="model", code="provider_not_allowed")


class PromptTooLong(HeadraceError):
    """The prompt and the answer's smallest size do not fit into the model's context."""

    category = Category.INVALID
    end_code = EndCode.CONTEXT_LENGTH


class InputTooLong(HeadraceError):
    """A text has more tokens than its embedder reads."""

    category = Category.INVALID


class UnknownModel(HeadraceError):
    """A model alias that no folder under the models home answers to."""

    category = Category.INVALID


class Unparsable(HeadraceError):
    """An answer that does not have the format that its job asks for. Another model may give one that has it.

    `failure` is `unparsable`, `truncated` (its tokens ended first) or `unsatisfiable` (no text has the format). `place`
    is a JSON pointer into the answer, or a position in characters. `usage` counts the tokens of an answer that was
    given up.
    """

    category = Category.REROUTABLE

    def __init__(
        self,
        message: str,
        failure: "Failure" = "unparsable",
        place: str | None = None,
        usage: "Usage | None" = None,
    ) -> None:
        super().__init__(message)
        self.failure = failure
        self.place = place
        self.usage = usage


class NoAnswer(HeadraceError):
    """A job that ended without an answer to read: it failed, was cancelled, or moderation withheld the text."""


class Unavailable(HeadraceError):
    """Something that is needed did not answer: worth another try later."""

    category = Category.TRANSIENT


class ConfigurationError(HeadraceError):
    """A setting is missing or wrong; the message names it and says what it may be."""
