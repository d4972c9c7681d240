"""Requests with the keys under which the tiers of the cache look them up."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import NamedTuple

from headrace_schemas import GenerationJob
from headrace_schemas.job import Lane
from headrace_schemas.recall import CacheMode
from headrace_workers.core.ledger.steps import BATCH, INTERACTIVE
from headrace_workers.features.cache.semantic.found import Found, LookupRequest, Miss
from headrace_workers.features.cache.semantic.near import Near, Vectored
from headrace_workers.features.cache.semantic.question_indexes import Question
from headrace_workers.features.cache.semantic.scope import (
    key_of,
    normalised_key_of,
    not_by_likeness,
    scope_of,
    stands_alone,
)
from headrace_workers.features.cache.store.entries import Entry, Place


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
    """A request without an exact or normalised hit, by its place in the group, with its nearest known question."""

    place: int
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
        """Return the exact key of a request, or of another `job` in its place, for this model."""
        return key_of(job or asked.job, self._version(model), screened=asked.screened)

    def placed(self, request: KeyedRequest, found: Found) -> Found:
        """Return what was found. A job that is to make the answer gets its places for the later models of its chain."""
        later: Sequence[str] = request.asked.job.chain[1:]
        if not isinstance(found, Miss) or found.entry_id is None or not later:
            return found
        return replace(found, places={model: self._place(model, request) for model in later})

    def _place(self, model: str, request: KeyedRequest) -> Place:
        asked = request.asked
        scope = "" if request.question is None else self._scope(model, asked)
        return Place(self.exact(model, asked), scope, self._normalised(model, asked))

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
