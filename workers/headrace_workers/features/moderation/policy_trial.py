"""A trial of another policy on texts that were moderated before: its decisions next to the former ones. Pure."""

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final, Literal, NamedTuple

from pydantic_core import from_json

from headrace_schemas import HeadraceError
from headrace_workers.core.ports import Instructions, Moderator

On = Literal["outputs", "texts"]
KINDS: Final[dict[On, str]] = {"outputs": "generation", "texts": "moderation"}
RELEASED: Final = "released"  # a person let it pass
UNDECIDED: Final = "held: a detector failed"
_AT_ONCE: Final = 64


class Past(NamedTuple):
    """A text and the decision about it.

    `text` is None if the unchanged text no longer exists; `instructions` are its model's.
    """

    job_id: str
    tenant: str
    before: str
    objected: frozenset[str]
    text: str | None
    instructions: Instructions | None = None


@dataclass
class Trial:
    """The decisions of the new policy next to the former ones. `shown` jobs are kept as examples of each change."""

    shown: int = 5
    moves: Counter[tuple[str, str]] = field(default_factory=Counter)
    gone: Counter[str] = field(default_factory=Counter)
    objected_before: Counter[str] = field(default_factory=Counter)
    objected_now: Counter[str] = field(default_factory=Counter)
    examples: dict[tuple[str, str], list[str]] = field(default_factory=lambda: defaultdict(list))

    @property
    def tried(self) -> int:
        """The number of texts that were moderated again."""
        return self.moves.total()

    @property
    def changed(self) -> int:
        """The number of texts with another decision now."""
        return sum(count for (before, now), count in self.moves.items() if _as_now(before) != now)

    def add(self, past: Past, now: str, objected: Iterable[str]) -> None:
        """Add a text that was moderated again."""
        self.moves[past.before, now] += 1
        self.objected_before.update(past.objected)
        self.objected_now.update(objected)
        known = self.examples[past.before, now]
        if _as_now(past.before) != now and len(known) < self.shown:
            known.append(past.job_id)


def past_of(job_id: str, tenant: str, payload: bytes, end: bytes) -> Past | None:
    """Return the moderated text of an ended generation or moderation job; None if it has no text."""
    receipt = from_json(end)
    verdict = receipt.get("moderation")
    if verdict is None or receipt.get("refusal") is not None:
        return None
    action = verdict["action"]
    objected = frozenset(name for name, objects in verdict.get("categories", {}).items() if objects)
    if receipt["kind"] == "moderation":
        return Past(job_id, tenant, action, objected, from_json(payload)["input"])
    if receipt.get("answer") is None:
        return None
    if action != "allow":
        return Past(job_id, tenant, action, objected, None)
    before = RELEASED if verdict.get("flagged") else action
    return Past(job_id, tenant, before, objected, receipt["answer"].get("text"), _instructions_of(from_json(payload)))


def tried(past: Iterable[Past], moderator: Moderator, trial: Trial) -> Iterator[int]:
    """Moderate the texts again, some at a time, and add them to `trial`; yield the number of each group."""
    texts = iter(past)
    while some := list(islice(texts, _AT_ONCE)):
        here = [each for each in some if each.text is not None]
        trial.gone.update(each.before for each in some if each.text is None)
        verdicts = moderator.moderate(
            [each.text or "" for each in here], [each.tenant for each in here], [each.instructions for each in here]
        )
        for each, verdict in zip(here, verdicts, strict=True):
            if isinstance(verdict, HeadraceError):
                trial.add(each, UNDECIDED, ())
            else:
                objected = (name for name, objects in verdict.verdict.categories.items() if objects)
                trial.add(each, verdict.action, objected)
        yield len(some)


def _as_now(before: str) -> str:
    """Return the former action; `review` if a person released the text."""
    return "review" if before == RELEASED else before


def _instructions_of(job: dict[str, Any]) -> Instructions | None:
    system = []
    for message in job.get("messages", ()):
        if message["role"] != "system":
            break
        system.append(message["content"])
    return Instructions("\n\n".join(system)) if system else None
