"""The interface of guards, and their refusals."""

from dataclasses import dataclass
from typing import Protocol

from headrace_workers.features.cache.guards.profile import Profile


class Guard(Protocol):
    """Compares two questions in one respect, in time linear in their texts. One that raises is taken for a refusal."""

    @property
    def name(self) -> str:
        """The aspect that it checks; receipts and statistics name it."""

    def refuse(self, asked: Profile, cached: Profile) -> str | None:
        """Return why the answer to `cached` must not be served for `asked`, in words for people; None where they
        agree.
        """


@dataclass(frozen=True, slots=True)
class Refusal:
    """The guard that refused, and its reason."""

    guard: str
    reason: str
