"""Failures of models on other machines. The category of each decides whether another model may answer instead."""

from headrace_schemas import Category, HeadraceError


class RemoteFailed(HeadraceError):
    """A call that failed for a reason that has nothing to do with its prompt: another model may answer it."""

    category = Category.REROUTABLE


class AnswerLost(RemoteFailed):
    """A call that reached the provider, whose answer did not come to its end: it may be billed all the same."""

    billed = True


class ProviderBusy(RemoteFailed):
    """A provider that takes no more calls for now. `after` is in how many seconds to ask it again; `is_sure` tells
    whether it takes calls then, or that is a guess.
    """

    def __init__(self, message: str, *, after: float | None = None, is_sure: bool | None = None) -> None:
        super().__init__(message)
        self.after = after
        self.is_sure = after is not None if is_sure is None else is_sure


class ProviderRejects(HeadraceError):
    """A call that the provider will never take: the request, the address or the certificate is wrong."""

    category = Category.PERMANENT


class ProviderRefuses(HeadraceError):
    """An answer that the provider's policy withheld. Another model is not asked in its place: that would evade it."""

    category = Category.PERMANENT
    billed = True
