"""Errors that are the reason why a criterion gives no value, each with the code that its score carries."""

from typing import ClassVar

from headrace_schemas import HeadraceError, NotJudged
from headrace_schemas.errors import PromptTooLong, ProviderNotAllowed
from headrace_workers.features.generation.verifiers.scale import Unanswered


class Unjudged(HeadraceError):
    """There is no value, and another try would find none either; the message is the score's reason."""

    not_judged: ClassVar[NotJudged]


class UnusablePattern(Unjudged):
    """A pattern that RE2 does not compile; the message says where it is wrong."""

    not_judged = NotJudged.BAD_PATTERN


class UnusableSchema(Unjudged):
    """A JSON Schema is invalid, or names something that is not known here."""

    not_judged = NotJudged.BAD_SCHEMA


class TooDeep(Unjudged):
    """A JSON document that is nested deeper than can be checked."""

    not_judged = NotJudged.TOO_DEEP


class NotCovered(Unjudged):
    """A criterion asks for something that is not supported here, such as an unknown language."""

    not_judged = NotJudged.NOT_COVERED


class Unsure(Unjudged):
    """There is too little to tell by."""

    not_judged = NotJudged.UNSURE


class TooLongToEmbed(Unjudged):
    """A text that the embedder does not read whole."""

    not_judged = NotJudged.TOO_LONG


def code_of(error: HeadraceError) -> NotJudged:
    """Return the code of a score that has this error as its reason."""
    if isinstance(error, Unjudged):
        return error.not_judged
    if isinstance(error, Unanswered):
        return NotJudged.UNANSWERED
    if isinstance(error, ProviderNotAllowed):
        return NotJudged.NOT_ALLOWED
    return NotJudged.TOO_LONG if isinstance(error, PromptTooLong) else NotJudged.FAILED
