"""Results of the search for passages."""

from dataclasses import dataclass

from headrace_schemas import GenerationJob, HeadraceError, Message
from headrace_schemas.grounding import Grounding


@dataclass(frozen=True, slots=True)
class Grounds:
    """Passages that an answer may rest on. `turn` is the user's turn with them, `tokens` what the job costs with it.

    `used` are the documents that they come from, as they were, id and version; each is so since `since` (ms of the
    database's clock). `shown` are the passages as the turn has them, but for their marks.
    """

    grounding: Grounding
    turn: str
    tokens: int
    used: tuple[tuple[int, str], ...]
    since: tuple[int, ...] = ()
    shown: tuple[str, ...] = ()

    def newer(self, than: int) -> set[tuple[int, str]]:
        """Return the documents that changed after that time."""
        return {used for used, since in zip(self.used, self.since, strict=True) if since > than}


@dataclass(frozen=True, slots=True)
class NoGrounds:
    """No passage could be used; `grounding.reason` says why."""

    grounding: Grounding


class UnknownBase(HeadraceError):
    """A knowledge base that the job's tenant does not have: it was never filled, or is emptied."""


Found = Grounds | NoGrounds | HeadraceError


def with_turn(job: GenerationJob, turn: str) -> tuple[Message, ...]:
    """Return the conversation with another last turn of the user; the system prompt stays as it is."""
    messages = list(job.conversation)
    place = max(at for at, message in enumerate(messages) if message.role == "user")
    messages[place] = messages[place].model_copy(update={"content": turn})
    return tuple(messages)
