"""Failures of models on other machines. The category of each decides whether another model may answer instead."""

from headrace_schemas import Category, HeadraceError
from headrace_schemas.errors import EndCode
from headrace_workers.core.ports import ProviderRefuses

__all__ = [
    "AnswerLost",
    "CutByDeadline",
    "ProviderRefuses",
    "ProviderRejects",
    "RemoteFailed",
    "RequestRejected",
    "ServerFailed",
]


class RemoteFailed(HeadraceError):
    """A call that failed for a reason that has nothing to do with its prompt: another model may answer it."""

    category = Category.REROUTABLE


class ServerFailed(RemoteFailed):
    """A call that the provider answered with the status 500: it may answer if it is asked once more."""


class AnswerLost(RemoteFailed):
    """A call that reached the provider, whose answer did not come to its end: it may be billed all the same."""

    billed = True


class CutByDeadline(AnswerLost):
    """An answer that its job's own deadline cut off, too soon to say anything about the model."""


class ProviderRejects(HeadraceError):
    """A call that the provider will never take: the request, the address or the certificate is wrong. `status` is of
    the provider's answer, if there is one.
    """

    category = Category.PERMANENT

    def __init__(self, message: str, *, status: int | None = None) -> None:
        super().__init__(message)
        self.status = status


class RequestRejected(ProviderRejects):
    """A call that the provider will never take, since it does not like the request itself."""

    end_code = EndCode.BAD_REQUEST
