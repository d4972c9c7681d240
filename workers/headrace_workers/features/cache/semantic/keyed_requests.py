"""Requests with the keys under which the tiers of the cache look them up, and their hits."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NamedTuple

from headrace_schemas import Answer, GenerationJob
from headrace_schemas.job import Lane
from headrace_schemas.recall import CacheMode, CacheTier
from headrace_workers.core.ledger.steps import BATCH, INTERACTIVE
from headrace_workers.features.cache.semantic.lookup_types import Hit, LookupRequest, LookupResult, Miss, NearMiss
from headrace_workers.features.cache.semantic.nearest import Near, Vectored
from headrace_workers.features.cache.semantic.question_indexes import Neighbour, Question
from headrace_workers.features.cache.semantic.scope import (
    key_of,
    normalised_key_of,
    not_by_likeness,
    scope_of,
    stands_alone,
)
from headrace_workers.features.cache.store.entries import Entry, EntryKeys


class KeyedRequest(NamedTuple):
    """A request with its exact key, its normalised key, and its question for the semantic tier. A tier whose key is
    None may not answer it; `refused` tells why the semantic one may not.
    """

    asked: LookupRequest
    key: str
    normalised: str | None
    question: Question | None
    refused: str | None

    @property
    def lane(self) -> int:
        """The lane of its job."""
        return INTERACTIVE if self.asked.job.lane is Lane.INTERACTIVE else BATCH

    @property
    def scope(self) -> str:
        """The scope of its question; empty if the semantic tier may not answer it."""
        return "" if self.question is None else self.question.scope

    def takes(self, entry: Entry) -> bool:
        """Return True if the answer is not too old for the job."""
        most = self.asked.job.max_age
        return most is None or entry.age_ms <= most * 1000


class Unanswered(NamedTuple):
    """A request without an exact or normalised hit, by its position in the group, with its nearest known question."""

    position: int
    request: KeyedRequest
    near: Near

    @property
    def vectored(self) -> Vectored | None:
        """Its question with its vector; None if the semantic tier may not answer it."""
        question, vector = self.request.question, self.near.vector
        return None if question is None or vector is None else Vectored(question, vector)

    def refused(self, reason: str) -> "Unanswered":
        """Return the request without its nearest question, which is refused for this reason."""
        return self._replace(near=self.near._replace(found=None, refused=reason))


class RequestKeys:
    """The keys of requests. `version` names a model and its weights by its alias. `embedder` is the id of the embedder;
    None where no embedder is loaded.
    """

    def __init__(self, version: Callable[[str], str], embedder: str | None) -> None:
        self._version = version
        self._embedder = embedder

    def of(self, asked: LookupRequest) -> KeyedRequest:
        """Return the request with its keys for the first model of its chain."""
        model = asked.job.first_model
        question, refused = self._question(model, asked)
        return KeyedRequest(asked, self.exact(model, asked), self._normalised(model, asked), question, refused)

    def exact(self, model: str, asked: LookupRequest, job: GenerationJob | None = None) -> str:
        """Return the exact key of a request, or of another `job` instead, for this model."""
        return key_of(job or asked.job, self._version(model), screened=asked.screened)

    def placed(self, request: KeyedRequest, result: LookupResult) -> LookupResult:
        """Return what was found. A job that is to make the answer gets its places for the later models of its chain."""
        later: Sequence[str] = request.asked.job.chain[1:]
        if not isinstance(result, Miss) or result.entry_id is None or not later:
            return result
        return replace(result, places={model: self._place(model, request) for model in later})

    def _place(self, model: str, request: KeyedRequest) -> EntryKeys:
        asked = request.asked
        scope = "" if request.question is None else self._scope(model, asked)
        return EntryKeys(self.exact(model, asked), scope, self._normalised(model, asked))

    def _normalised(self, model: str, asked: LookupRequest) -> str | None:
        if asked.mode is CacheMode.EXACT or not stands_alone(asked.job):
            return None
        return normalised_key_of(asked.job, self._version(model), screened=asked.screened)

    def _question(self, model: str, asked: LookupRequest) -> tuple[Question | None, str | None]:
        """Return the question for the semantic tier; or None, and why that tier may not answer it."""
        if asked.mode is not CacheMode.SEMANTIC:
            return None, None
        refused = not_by_likeness(asked.job)
        if refused is None and self._embedder is None:
            refused = "no embedder is loaded: `headrace models pull all-minilm-l6-v2` gets one"
        if refused is not None:
            return None, refused
        return Question(self._scope(model, asked), asked.job.question, asked.job.tenant), None

    def _scope(self, model: str, asked: LookupRequest) -> str:
        assert self._embedder is not None  # noqa: S101 - it has no question otherwise
        return scope_of(asked.job, self._version(model), self._embedder, screened=asked.screened)


def hit_of(
    request: KeyedRequest,
    entry: Entry | None,
    tier: CacheTier,
    similarity: float | None = None,
    threshold: float | None = None,
) -> Hit | None:
    """Return the hit of this tier; None without an entry, or if it is too old. An exact hit of a request that waited
    for it is coalesced.
    """
    if entry is None or not request.takes(entry):
        return None
    if tier is CacheTier.EXACT and request.asked.has_waited:
        tier = CacheTier.COALESCED
    return Hit(
        entry_id=entry.id,
        scope=request.scope,
        tier=tier,
        answer=Answer.model_validate_json(entry.answer),
        first_job=entry.job_id,
        age=max(0, entry.age_ms) / 1000,
        saved_ms=entry.saved_ms,
        asked_at=entry.asked_at,
        similarity=similarity,
        threshold=threshold,
    )


def semantic_hit(lookup: Unanswered, neighbour: Neighbour | None, alive: Mapping[int, Entry]) -> Hit | None:
    """Return the hit for a known question that asks the same in other words; None if its answer may not be served."""
    if neighbour is None:
        return None
    request, entry = lookup.request, alive.get(neighbour.entry_id)
    if entry is None:
        return None
    # A restored ledger assigns ids again, so an id in memory may have belonged to another answer.
    if (entry.scope, entry.question) != (request.question and request.question.scope, neighbour.question):
        return None
    return hit_of(request, entry, CacheTier.SEMANTIC, neighbour.similarity, lookup.near.threshold)


def near_miss(lookup: Unanswered, alive: Mapping[int, Entry]) -> NearMiss | None:
    """Return what the request was nearly served; None if it is not explored, or the answer may not be served."""
    if lookup.near.nearly is None:
        return None
    kind, neighbour, guard = lookup.near.nearly
    hit = semantic_hit(lookup, neighbour, alive)
    if hit is None:
        return None
    return NearMiss(
        kind=kind, entry_id=hit.entry_id, scope=hit.scope, similarity=neighbour.similarity, text=hit.answer.text or "",
        guard=guard,
    )  # fmt: skip
