"""Failures of models on other machines. The category of each decides whether another model may answer instead."""

from headrace_schemas import Category, HeadraceError
from headrace_schemas.errors import EndCode


class RemoteFailed(HeadraceError):
    """A call that failed for a reason that has nothing to do with its prompt: another model may answer it."""

    category = Category.REROUTABLE


class AnswerLost(RemoteFailed):
    """A call that reached the provider, whose answer did not come to its end: it may be billed all the same."""

    billed = True


class ProviderRejects(HeadraceError):
    """A call that the provider will never take: the request, the address or the certificate is wrong."""

    category = Category.PERMANENT


class RequestRejected(ProviderRejects):
    """A call that the provider will never take, since it does not like the request itself."""

    end_code = EndCode.BAD_REQUEST


class ProviderRefuses(HeadraceError):
    """An answer that the provider's policy withheld. Another model is not asked in its place: that would evade it."""

    category = Category.PERMANENT
    end_code = EndCode.CONTENT_POLICY
    billed = True
