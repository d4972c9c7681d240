"""Requests for a cache look-up, and their results."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

from headrace_schemas import Answer, Category, GenerationJob, HeadraceError
from headrace_schemas.errors import Unavailable
from headrace_schemas.recall import CacheMode, CacheTier, Verified
from headrace_workers.features.cache.store.entries import EntryKeys
from headrace_workers.models.verifiers.verifier import TextPair, Verdict


@dataclass(frozen=True, slots=True)
class LookupRequest:
    """A job that asks. One that has waited for another already, in vain or not, waits for nobody again. If it
    `explores`, the answer that it was nearly served is wanted. A `screened` job is served no answer that rests on
    passages without screening. `said` is what a verifier said of one answer, for a job that comes back from it.
    """

    job_id: str
    job: GenerationJob
    mode: CacheMode
    waited_for: str | None = None
    explores: bool = False
    screened: bool = False
    said: "VerifierSaid | None" = None

    @property
    def has_waited(self) -> bool:
        """True if the request has waited."""
        return self.waited_for is not None


@dataclass(frozen=True, slots=True)
class VerifierSaid:
    """A verifier's verdict about the answer of an entry, or why there is none."""

    entry_id: int
    model: str
    provider: str | None
    verdict: Verdict | HeadraceError


@dataclass(frozen=True, slots=True)
class Unverified:
    """An answer that likeness would serve, if the verifier says yes to the pair of questions."""

    entry_id: int
    pair: TextPair


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """An answer that was given before."""

    entry_id: int
    scope: str
    tier: CacheTier
    answer: Answer
    first_job: str
    age: float  # s
    saved_ms: float
    asked_at: int  # when what it rests on was looked for, in ms of the database's clock
    similarity: float | None = None
    threshold: float | None = None  # of similarity, at that moment
    verified: Verified | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NearMiss:
    """An answer that a guard kept from being served (`refused`), or that would be served if its scope were not in
    shadow (`shadow`).
    """

    kind: Literal["refused", "shadow"]
    entry_id: int
    scope: str
    similarity: float
    text: str
    guard: str | None = None  # the one that alone refused it, or `several`


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """No answer may be served. The job's own answer will fill `entry_id`. `similarity` and `refused` tell how near the
    nearest answer came and why it was refused; `nearly` is the near miss, if it is to be audited. `places` is where the
    answer belongs if a later model of the chain gives it.
    """

    entry_id: int | None = None
    similarity: float | None = None
    threshold: float | None = None  # of similarity, at that moment
    refused: str | None = None
    nearly: NearMiss | None = None
    places: Mapping[str, EntryKeys] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Awaited:
    """Another job makes the answer at this moment."""

    job_id: str


@dataclass(frozen=True, slots=True)
class Failed:
    """It cannot be answered: the very same request, which it waited for, could not."""

    category: Category
    reason: str


LookupResult = Hit | Miss | Awaited | Failed | Unverified


@dataclass(frozen=True, slots=True)
class ModelOfVerifier:
    """A verifier that is a model of the deployment, which is asked in a stage of its own if a worker `holds` it."""

    model: str
    holds: Callable[[str], bool]

    def asked(self, entry_id: int, pair: TextPair) -> VerifierSaid | Unverified:
        """Return that it is to be asked about this pair; or that nobody can."""
        if self.holds(self.model):
            return Unverified(entry_id, pair)
        return VerifierSaid(entry_id, self.model, None, Unavailable(f"no worker holds {self.model}"))
