"""The look-up of an answer before a model is asked. One record of each job passes through the tiers, from the very same
request to the same question in other words; without an answer it makes its own, or waits for the job that does.
"""

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Final, Literal

from headrace_schemas import Answer, GenerationJob, HeadraceError
from headrace_schemas.errors import Unavailable
from headrace_schemas.job import Lane
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.reasons import reason_of
from headrace_schemas.recall import CacheMode, CacheTier, Verified
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ledger.outcome import Dead
from headrace_workers.core.ledger.steps import BATCH, INTERACTIVE
from headrace_workers.features.cache.semantic.nearest import NearestQuestions
from headrace_workers.features.cache.semantic.questions import Neighbour
from headrace_workers.features.cache.semantic.scope import (
    key_of,
    normalised_key_of,
    not_by_likeness,
    scope_of,
    stands_alone,
)
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.entries import Entry, EntryKeys, Leader, NewEntry
from headrace_workers.features.cache.tables import HIT
from headrace_workers.models.verifiers.verifier import Relation, TextPair, Verdict, Verifier

_LATELY: Final = 500  # changes that are looked at, beside memory


@dataclass(frozen=True, slots=True)
class VerifierSaid:
    """A verifier's verdict about the answer of an entry, or why there is none."""

    entry_id: int
    model: str
    provider: str | None
    verdict: Verdict | HeadraceError


@dataclass(frozen=True, slots=True)
class ModelOfVerifier:
    """A verifier that is a model of the deployment, which is asked in a stage of its own if a worker `holds` it."""

    model: str
    holds: Callable[[str], bool]


@dataclass
class Lookup:
    """A job that asks, the keys of its request, what was found for it, and what was decided.

    A job that has waited for another already, in vain or not, waits for nobody again. If it `explores`, the answer that
    it was nearly served is wanted. A `screened` job is served no answer that rests on passages without screening.
    `said` is what a verifier said of one answer, for a job that comes back from it. `replace(lookup)` is the same
    request before any look-up.
    """

    job_id: str
    job: GenerationJob
    mode: CacheMode
    waited_for: str | None = None
    explores: bool = False
    screened: bool = False
    said: VerifierSaid | None = None

    # A tier whose key is missing may not answer; `refused` says why likeness may not.
    key: str = field(default="", init=False)
    normalised: str | None = field(default=None, init=False)
    scope: str = field(default="", init=False)
    places: Mapping[str, EntryKeys] = field(default_factory=dict, init=False)  # the keys for later models, if it leads

    # The nearest known question that asks the same (`hit`); or one that would, if no guard (`refused`) or its scope
    # (`shadow`) kept its answer, `nearly`, from being served.
    vector: bytes | None = field(default=None, init=False)
    near: Neighbour | None = field(default=None, init=False)
    kind: Literal["hit", "refused", "shadow"] | None = field(default=None, init=False)
    guard: str | None = field(default=None, init=False)  # the one that alone refused it, or `several`
    nearly: str | None = field(default=None, init=False)
    similarity: float | None = field(default=None, init=False)  # to the nearest question
    threshold: float | None = field(default=None, init=False)  # of similarity, at that moment
    refused: str | None = field(default=None, init=False)

    # The decision: `entry` is served by `tier`; or `pair` is verified first; or the job waits for another; or it ends
    # as that did; or its own answer is made, and fills the entry that it leads, if any.
    decision: Literal["hit", "verify", "waits", "ends", "miss"] | None = field(default=None, init=False)
    tier: CacheTier = field(default=CacheTier.NONE, init=False)
    entry: Entry | None = field(default=None, init=False)
    verified: Verified | None = field(default=None, init=False)
    pair: TextPair | None = field(default=None, init=False)
    waits_for: str | None = field(default=None, init=False)
    end: Dead | None = field(default=None, init=False)
    leads: int | None = field(default=None, init=False)

    @property
    def lane(self) -> int:
        """The lane of its job."""
        return INTERACTIVE if self.job.lane is Lane.INTERACTIVE else BATCH

    @property
    def hit(self) -> Entry:
        """The entry that is served."""
        assert self.entry is not None  # noqa: S101 - it was decided for
        return self.entry

    @cached_property
    def answer(self) -> Answer:
        """The answer that is served."""
        return Answer.model_validate_json(self.hit.answer)

    def takes(self, entry: Entry) -> bool:
        """Return True if the answer is not too old for the job."""
        return self.job.max_age is None or entry.age_ms <= self.job.max_age * 1000

    def serve(self, tier: CacheTier, entry: Entry | None, similarity: float | None = None) -> bool:
        """Decide for an entry; return False without one, or if it is too old for the job. An exact hit of a job that
        waited for it is coalesced.
        """
        if entry is None or not self.takes(entry):
            return False
        self.decision, self.entry, self.similarity = "hit", entry, similarity
        self.tier = CacheTier.COALESCED if tier is CacheTier.EXACT and self.waited_for is not None else tier
        if similarity is None:
            self.threshold = None
        return True

    def living(self, near: Neighbour, alive: Mapping[int, Entry]) -> Entry | None:
        """Return the entry of a known question that asks the same in other words; None if it may not be served."""
        entry = alive.get(near.entry_id)
        # A restored ledger assigns ids again, so an id in memory may have belonged to another answer.
        return entry if entry is not None and (entry.scope, entry.question) == (self.scope, near.question) else None

    def unserve(self, refused: str | None = None) -> None:
        """Take the decision for an entry back: it has died, or is `refused` for this reason."""
        self.decision, self.entry, self.tier, self.verified = None, None, CacheTier.NONE, None
        self.refused = refused or self.refused

    def wait(self, job_id: str) -> None:
        """Decide to wait for a job, unless this one has waited already."""
        if self.waited_for is None:
            self.decision, self.waits_for = "waits", job_id
        else:
            self.decision = "miss"

    def may_wait_for(self, lane: int) -> bool:
        """Return False for bulk work where a person waits: it may not begin for a long time."""
        return not (self.lane == INTERACTIVE and lane == BATCH)


class AnswerLookup:
    """The answers of one ledger. Thread-safe. `version` names a model and its weights by its alias.

    A scope in shadow has no semantic hits. Where there is a `verifier`, a semantic hit is served only if it confirms
    it, and nobody waits for an answer to other words.
    """

    def __init__(
        self,
        ledger: Ledger,
        version: Callable[[str], str],
        likeness: NearestQuestions | None = None,
        verifier: Verifier | ModelOfVerifier | None = None,
    ) -> None:
        self._answers = ledger.of(Answers)
        self._version = version
        self._likeness = likeness
        self._verifier = verifier
        self._coalesces = likeness if verifier is None else None

    def look_up(self, lookups: Sequence[Lookup]) -> Sequence[Lookup]:
        """Decide what each job is served, waits for, or makes, and return them. Raise Unavailable with the ledger."""
        for lookup in lookups:
            self._name(lookup)
        same = self._answers.exact({lookup.key for lookup in lookups})
        for lookup in lookups:
            lookup.serve(CacheTier.EXACT, same.get(lookup.key))
        self._by_form(_open(lookups))
        self._by_likeness([lookup for lookup in _open(lookups) if lookup.scope])
        self._verify([lookup for lookup in lookups if lookup.tier is CacheTier.SEMANTIC])
        self._end(_open(lookups))
        self._lately(_open(lookups))
        self._lead(_open(lookups), [entry.id for entry in same.values()])
        return lookups

    def outdate(self, documents: Mapping[int, Collection[tuple[int, str]]]) -> set[int]:
        """Outdate the answers, by their entries' ids, that do not rest on all of these documents (id and version).
        Return them. Raise Unavailable with the ledger.
        """
        return self._answers.outdate(documents, "its knowledge base has a newer document that it does not rest on")

    # -- the keys

    def _name(self, lookup: Lookup) -> None:
        if lookup.mode is CacheMode.SEMANTIC:
            lookup.refused = not_by_likeness(lookup.job)
            if lookup.refused is None and self._likeness is None:
                lookup.refused = "no embedder is loaded: `headrace models pull all-minilm-l6-v2` gets one"
        by_likeness = lookup.mode is CacheMode.SEMANTIC and lookup.refused is None
        lookup.key, lookup.scope, lookup.normalised = self._keys(lookup, lookup.job.first_model, by_likeness)

    def _keys(self, lookup: Lookup, model: str, by_likeness: bool) -> EntryKeys:
        job, version, screened = lookup.job, self._version(model), lookup.screened
        scope, normalised = "", None
        if by_likeness and self._likeness is not None:
            scope = scope_of(job, version, self._likeness.embedder, screened=screened)
        if lookup.mode is not CacheMode.EXACT and stands_alone(job):
            normalised = normalised_key_of(job, version, screened=screened)
        return EntryKeys(key_of(job, version, screened=screened), scope, normalised)

    # -- the tiers behind the exact one

    def _by_form(self, lookups: Sequence[Lookup]) -> None:
        """Serve the answers to questions of the same normalised form."""
        forms = {lookup.normalised for lookup in lookups if lookup.normalised is not None}
        known = self._answers.alike_but_for_form(forms) if forms else {}
        for lookup in lookups:
            lookup.serve(CacheTier.NORMALISED, known.get(lookup.normalised or ""))

    def _by_likeness(self, lookups: Sequence[Lookup]) -> None:
        """Serve the answers to the same questions in other words, or note what was nearly served."""
        if not lookups or self._likeness is None:
            return
        self._likeness.nearest(lookups)
        alive = self._alive(lookup.near for lookup in lookups)
        for lookup in lookups:
            entry = None if lookup.near is None else lookup.living(lookup.near, alive)
            if lookup.kind == HIT:
                lookup.serve(CacheTier.SEMANTIC, entry, lookup.similarity)
            elif entry is not None and lookup.takes(entry):
                lookup.nearly = Answer.model_validate_json(entry.answer).text or ""

    def _alive(self, near: Iterable[Neighbour | None]) -> dict[int, Entry]:
        ids = {neighbour.entry_id for neighbour in near if neighbour is not None}
        return self._answers.living(ids) if ids else {}

    def _verify(self, hits: Sequence[Lookup]) -> None:
        """Keep the semantic hits that the verifier confirms, and that live after that; or send them to its model."""
        if self._verifier is None or not hits:
            return
        for lookup, said in zip(hits, self._said(self._verifier, hits), strict=True):
            if isinstance(said, TextPair):
                lookup.decision, lookup.pair = "verify", said
            else:
                _hear(lookup, said)
        alive = self._alive(lookup.near for lookup in hits)  # it may have taken a while
        for lookup in hits:
            if lookup.decision == "hit" and lookup.entry is not None and lookup.entry.id not in alive:
                lookup.unserve()

    def _said(self, verifier: Verifier | ModelOfVerifier, hits: Sequence[Lookup]) -> Sequence[VerifierSaid | TextPair]:
        """Return what the verifier says of each hit, or said before; or the pair to ask its model about."""
        pairs = [
            TextPair(Relation.SAME_QUESTION, hit.near.question, hit.job.question, hit.job.tenant)
            for hit in hits
            if hit.near is not None
        ]
        ids = [hit.near.entry_id for hit in hits if hit.near is not None]
        if isinstance(verifier, ModelOfVerifier):
            model = verifier.model
            gone = None if verifier.holds(model) else Unavailable(f"no worker holds {model}")
            return [
                hit.said or (pair if gone is None else VerifierSaid(entry_id, model, None, gone))
                for hit, entry_id, pair in zip(hits, ids, pairs, strict=True)
            ]
        return [
            VerifierSaid(entry_id, verifier.name, verifier.provider, verdict)
            for entry_id, verdict in zip(ids, verifier.verify(pairs), strict=True)
        ]

    # -- who makes an answer, and who waits for it

    def _end(self, lookups: Sequence[Lookup]) -> None:
        """End the jobs whose leader failed by its own request while they waited. They would fail again, and the leader
        may have killed its workers.
        """
        waited_for = {lookup.waited_for for lookup in lookups if lookup.waited_for is not None}
        ends = self._answers.failed(waited_for) if waited_for else {}
        for lookup in lookups:
            end = ends.get(lookup.waited_for or "")
            if end is None:
                continue
            if key_of(end.job, self._version(end.job.first_model), screened=lookup.screened) == lookup.key:
                reason = f"the very same request of job {lookup.waited_for} ended so: {end.reason}"
                lookup.decision, lookup.end = "ends", Dead(end.category, reason[:MAX_SHORT_TEXT])

    def _lately(self, lookups: Sequence[Lookup]) -> None:
        """Serve answers to other words that were made a moment ago, before memory could know; or wait for those that
        are being made.
        """
        candidates = list(zip(lookups, self._like_lately(lookups), strict=True))
        ids = {neighbour.entry_id for _, neighbours in candidates for neighbour in neighbours}
        if not ids:
            return
        alive, leaders = self._answers.living(ids), self._answers.in_the_making(ids)
        for lookup, neighbours in candidates:  # oldest first
            if any(
                lookup.serve(CacheTier.SEMANTIC, lookup.living(near, alive), near.similarity) for near in neighbours
            ):
                continue
            making = [leader for near in neighbours if (leader := leaders.get(near.entry_id)) is not None]
            if any(leader.job_id == lookup.job_id for leader in making):
                continue  # its worker died, and it is run again
            if (leads := next((leader for leader in making if lookup.may_wait_for(leader.lane)), None)) is not None:
                lookup.wait(leads.job_id)

    def _lead(self, lookups: Sequence[Lookup], passed: Collection[int]) -> None:
        """Let the others lead or wait. Of the group's requests for the same answer, the first leads, or waits for the
        job that does; the others wait for it. Exact answers in `passed` were not wanted.
        """
        if not lookups:
            return
        likeness = self._coalesces
        repeats = [None] * len(lookups) if likeness is None else likeness.repeats(lookups)
        first = [lookup for lookup, repeated in zip(lookups, repeats, strict=True) if repeated is None]
        led = self._answers.lead([_new(lookup) for lookup in first], passed)
        for lookup in first:
            if not lookup.serve(CacheTier.EXACT, led.live.get(lookup.key)):
                _follow(lookup, led.leaders.get(lookup.key))
        self._yield([lookup for lookup in first if lookup.leads is not None and lookup.waited_for is None], first)
        for lookup, repeated in zip(lookups, repeats, strict=True):
            if repeated is not None:
                _repeat(lookup, *repeated)
            if lookup.leads is not None:
                by_likeness = bool(lookup.scope)
                lookup.places = {model: self._keys(lookup, model, by_likeness) for model in lookup.job.chain[1:]}

    def _yield(self, leading: Sequence[Lookup], first: Sequence[Lookup]) -> None:
        """Let those wait after all that have just begun to lead, and who waited for them, where for the same question
        in another form or in other words another job had begun before: of this group, or of another worker when neither
        could see the other.
        """
        if not leading:
            return
        follows: dict[str, str] = {}
        for lookup, makers in zip(leading, self._makers(leading), strict=True):
            own = lookup.leads or 0
            other = next((one for one in makers if one.entry_id < own and lookup.may_wait_for(one.lane)), None)
            if other is not None and self._answers.withdraw(own):
                lookup.leads = None
                lookup.wait(other.job_id)
                follows[lookup.job_id] = other.job_id
        for lookup in first:
            if lookup.waits_for in follows:
                lookup.waits_for = follows[lookup.waits_for]

    def _makers(self, leading: Sequence[Lookup]) -> list[list[Leader]]:
        """Return who makes the answer to each question in another form, and then in other words."""
        forms = {lookup.normalised for lookup in leading if lookup.normalised is not None}
        alike = self._answers.alike_in_the_making(forms) if forms else {}
        like = self._like_lately(leading)
        ids = {near.entry_id for neighbours in like for near in neighbours}
        leaders = self._answers.in_the_making(ids) if ids else {}
        return [
            [
                *alike.get(lookup.normalised or "", ()),
                *(leaders[near.entry_id] for near in neighbours if near.entry_id in leaders),
            ]
            for lookup, neighbours in zip(leading, like, strict=True)
        ]

    def _like_lately(self, lookups: Sequence[Lookup]) -> list[list[Neighbour]]:
        """Return the entries that ask the same as each in other words and are being made, or were a moment ago."""
        scopes = {lookup.scope for lookup in lookups if lookup.vector is not None}
        if not scopes or self._coalesces is None:
            return [[] for _ in lookups]
        changes = self._answers.lately(self._coalesces.followed, scopes, _LATELY)
        return self._coalesces.lately(lookups, changes)


def _open(lookups: Sequence[Lookup]) -> list[Lookup]:
    """Return the look-ups that nothing is decided for."""
    return [lookup for lookup in lookups if lookup.decision is None]


def _hear(lookup: Lookup, said: VerifierSaid) -> None:
    """Keep a hit that the verifier confirms, and refuse any other."""
    verdict = said.verdict
    if lookup.near is None or said.entry_id != lookup.near.entry_id:
        lookup.unserve(f"the verifier {said.model} was asked about another question that was nearest")
    elif isinstance(verdict, HeadraceError):
        lookup.unserve(f"the verifier {said.model} gave no verdict: {reason_of(verdict)}"[:MAX_SHORT_TEXT])
    elif not verdict.holds:
        lookup.unserve(f"the verifier {said.model} says that it asks for something else: {verdict.value:.2f}")
    else:
        lookup.verified = Verified(
            model=said.model, provider=said.provider, value=verdict.value, mass=verdict.mass, ms=verdict.ms
        )


def _new(lookup: Lookup) -> NewEntry:
    return NewEntry(
        scope=lookup.scope,
        key=lookup.key,
        tenant=lookup.job.tenant,
        job_id=lookup.job_id,
        lane=lookup.lane,
        normalised=lookup.normalised,
        question=lookup.job.question if lookup.scope else None,
        vector=lookup.vector,
    )


def _follow(lookup: Lookup, leader: Leader | None) -> None:
    """Lead, wait for the leader, or make an answer for this job alone."""
    lookup.decision = "miss"
    if leader is not None and leader.job_id == lookup.job_id:
        lookup.leads = leader.entry_id
    elif leader is not None and lookup.may_wait_for(leader.lane):
        lookup.wait(leader.job_id)


def _repeat(lookup: Lookup, first: Lookup, similarity: float) -> None:
    """Do as an earlier request of the group that asks the same in other words."""
    if first.decision == "hit" and lookup.serve(CacheTier.SEMANTIC, first.entry, similarity):
        return
    lookup.decision = "miss"
    if first.waits_for is not None:
        lookup.wait(first.waits_for)
    elif first.leads is not None and lookup.may_wait_for(first.lane):
        lookup.wait(first.job_id)


def missed(lookup: Lookup) -> Lookup:
    """Return the same request without an answer, and without an entry to fill."""
    miss = replace(lookup)
    miss.decision = "miss"
    return miss
