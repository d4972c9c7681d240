"""Answers that were given before: looked up in the ledger, and by likeness in memory.

In memory is only what the ledger said a moment ago: what is served is looked up there once more, so that an answer
that was recalled is dead at once.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, Protocol

from headrace_schemas import Answer, GenerationJob
from headrace_schemas.job import Lane
from headrace_schemas.recall import CacheMode, CacheTier
from headrace_workers.ledger.entries import Entry, Leader, Led, NewEntry
from headrace_workers.ledger.lanes import BATCH, INTERACTIVE
from headrace_workers.ledger.ledger import Ledger
from headrace_workers.recall.found import Awaited, Found, Hit, Miss
from headrace_workers.recall.scope import key_of, not_by_likeness, scope_of


@dataclass(frozen=True, slots=True)
class Asked:
    """A job that asks. One that has waited already, in vain or not, waits for nobody again."""

    job_id: str
    job: GenerationJob
    mode: CacheMode
    has_waited: bool = False


class Question(NamedTuple):
    """A question that is to be looked up by likeness."""

    scope: str
    text: str


class Near(NamedTuple):
    """What likeness came to: the question's vector, and the nearest entry that asks the same, or why none does."""

    vector: bytes | None = None
    entry_id: int | None = None
    similarity: float | None = None
    refused: str | None = None


class Likeness(Protocol):
    """Finds the nearest known questions. Thread-safe."""

    @property
    def embedder(self) -> str:
        """The id of what makes the vectors."""

    def nearest(self, questions: Sequence[Question]) -> list[Near]:
        """For each question, what it came to."""


class _Request(NamedTuple):
    asked: Asked
    key: str
    question: Question | None  # None: only the very same request may be served
    refused: str | None  # why so


class Cache:
    """The answers of one ledger. Thread-safe. `version` tells a model and its weights by its alias."""

    def __init__(self, ledger: Ledger, version: Callable[[str], str], likeness: Likeness | None = None) -> None:
        self._ledger = ledger
        self._version = version
        self._likeness = likeness

    def look_up(self, asked: Sequence[Asked]) -> list[Found]:
        """What each comes to; who finds nothing is noted as the one who makes it. Unavailable with the ledger."""
        requests = [self._request(each) for each in asked]
        same = self._ledger.answers.exact({request.key for request in requests})
        found: list[Found | None] = [self._same(request, same.get(request.key)) for request in requests]
        missing = [place for place, each in enumerate(found) if each is None]
        near = self._near([requests[place] for place in missing])
        alive = self._ledger.answers.living({each.entry_id for each in near if each.entry_id is not None})
        misses: list[tuple[int, Near]] = []
        for place, each in zip(missing, near, strict=True):
            hit = self._like(requests[place], each, alive)
            if hit is None:
                misses.append((place, each))
            else:
                found[place] = hit
        led = self._lead([(requests[place], each) for place, each in misses], [entry.id for entry in same.values()])
        for place, each in misses:
            request = requests[place]
            late = self._same(request, led.live.get(request.key))
            found[place] = late or _unserved(request, each, led.leaders.get(request.key))
        return [each for each in found if each is not None]

    def _request(self, asked: Asked) -> _Request:
        job, version = asked.job, self._version(asked.job.model)
        question, refused = None, None
        if asked.mode is CacheMode.SEMANTIC:
            refused = not_by_likeness(job)
            if refused is None and self._likeness is None:
                refused = "no embedder is loaded: `headrace models pull all-minilm-l6-v2` gets one"
            if refused is None and self._likeness is not None:
                question = Question(scope_of(job, version, self._likeness.embedder), job.question)
        return _Request(asked, key_of(job, version), question, refused)

    def _same(self, request: _Request, entry: Entry | None) -> Hit | None:
        if entry is None or _too_old(request, entry):
            return None
        tier = CacheTier.COALESCED if request.asked.has_waited else CacheTier.EXACT
        return _hit(request, entry, tier, None)

    def _near(self, requests: Sequence[_Request]) -> list[Near]:
        asked = [request.question for request in requests if request.question is not None]
        found = iter(self._likeness.nearest(asked) if asked and self._likeness is not None else ())
        return [Near(refused=request.refused) if request.question is None else next(found) for request in requests]

    def _like(self, request: _Request, near: Near, alive: dict[int, Entry]) -> Hit | None:
        entry = None if near.entry_id is None else alive.get(near.entry_id)
        if entry is None or _too_old(request, entry):
            return None
        return _hit(request, entry, CacheTier.SEMANTIC, near.similarity)

    def _lead(self, misses: Sequence[tuple[_Request, Near]], passed: Sequence[int]) -> Led:
        """`passed` are the answers to the very same requests that were found, and that some did not want."""
        return self._ledger.answers.lead(
            [
                NewEntry(
                    scope=request.question.scope if request.question else "",
                    key=request.key,
                    tenant=request.asked.job.tenant,
                    job_id=request.asked.job_id,
                    lane=_lane(request),
                    question=request.question.text if request.question else None,
                    vector=near.vector,
                )
                for request, near in misses
                if not request.asked.has_waited
            ],
            passed,
        )


def _unserved(request: _Request, near: Near, leader: Leader | None) -> Miss | Awaited:
    """What becomes of a request that nothing answers yet."""
    miss = Miss(similarity=near.similarity, refused=near.refused)
    if leader is None:
        return miss
    if leader.job_id == request.asked.job_id:
        return replace(miss, entry_id=leader.entry_id)
    if _lane(request) == INTERACTIVE and leader.lane == BATCH:
        return miss  # bulk work may not have begun for a long time
    return Awaited(leader.job_id)


def _lane(request: _Request) -> int:
    return INTERACTIVE if request.asked.job.lane is Lane.INTERACTIVE else BATCH


def _too_old(request: _Request, entry: Entry) -> bool:
    most = request.asked.job.max_age
    return most is not None and entry.age_ms > most * 1000


def _hit(request: _Request, entry: Entry, tier: CacheTier, similarity: float | None) -> Hit:
    return Hit(
        entry_id=entry.id,
        scope=request.question.scope if request.question else "",
        tier=tier,
        answer=Answer.model_validate_json(entry.answer),
        first_job=entry.job_id,
        age=max(0, entry.age_ms) / 1000,
        saved_ms=entry.saved_ms,
        similarity=similarity,
    )
