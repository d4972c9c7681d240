"""Look-up of earlier answers: by two keys in the ledger, and by similarity in memory.

Memory lags behind the ledger by a moment, so each answer is looked up in the ledger once more before it is served. A
recalled answer is therefore dead at once.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import Final, NamedTuple

from headrace_schemas import Answer, GenerationJob, HeadraceError
from headrace_schemas.job import Lane
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.reasons import reason_of
from headrace_schemas.recall import CacheMode, CacheTier, Verified
from headrace_workers.core.ledger.lanes import BATCH, INTERACTIVE
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.ports import Relation, TextPair, Verdict, Verifier
from headrace_workers.features.cache.semantic.found import (
    Awaited,
    Failed,
    Found,
    Hit,
    LookupRequest,
    Miss,
    ModelOfVerifier,
    NearMiss,
    Unverified,
    VerifierSaid,
)
from headrace_workers.features.cache.semantic.near import Behind, Likeness, Near, Vectored
from headrace_workers.features.cache.semantic.question_indexes import Neighbour, Question
from headrace_workers.features.cache.semantic.scope import (
    key_of,
    normalised_key_of,
    not_by_likeness,
    scope_of,
    stands_alone,
)
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.entries import Entry, Leader, NewEntry, Place

_LATELY: Final = 500  # changes that are looked at, beside memory


class _Request(NamedTuple):
    asked: LookupRequest
    key: str
    normalised: str | None  # None: only the very same request may be served
    question: Question | None  # None: no answer may be served by likeness
    refused: str | None  # why so


class _Missing(NamedTuple):
    """A request that nothing answers yet, by its place in the group."""

    place: int
    request: _Request
    near: Near

    @property
    def vectored(self) -> Vectored | None:
        """Its question, where likeness may find one that asks the same."""
        question, vector = self.request.question, self.near.vector
        return None if question is None or vector is None else Vectored(question, vector)


class AnswerLookup:
    """The answers of one ledger. Thread-safe. `version` tells a model and its weights by its alias. What likeness finds
    is served only if the `verifier` says yes, where there is one; nobody then waits for an answer to other words.
    """

    def __init__(
        self,
        ledger: Ledger,
        version: Callable[[str], str],
        likeness: Likeness | None = None,
        verifier: "Verifier | ModelOfVerifier | None" = None,
    ) -> None:
        self._ledger = ledger
        self._verifier = verifier
        self._version = version
        self._likeness = likeness

    def look_up(self, wanted: Sequence[LookupRequest]) -> list[Found]:
        """Return the outcome of each request. A request that finds nothing is noted as the one that makes the answer.
        Raise Unavailable with the ledger.
        """
        requests = [self._request(each) for each in wanted]
        same = self._ledger.of(Answers).exact({request.key for request in requests})
        found: dict[int, Found] = {}
        for place, each in enumerate(requests):
            if (hit := self._same(each, same.get(each.key))) is not None:
                found[place] = hit
        found |= self._normalised({place: each for place, each in enumerate(requests) if place not in found})
        missing = self._near([(place, each) for place, each in enumerate(requests) if place not in found])
        alive = self._alive(missing)
        missing, known = self._verified(missing, _known(missing, alive))
        found |= known
        found |= self._failed(missing := _but(missing, found))
        found |= self._lately(missing := _but(missing, found))
        found |= self._made(_but(missing, found), same)
        nearly = {each.place: near for each in missing if (near := _nearly(each, alive)) is not None}
        return [self._placed(each, _explored(found[n], nearly.get(n))) for n, each in enumerate(requests)]

    def outdate(self, found: Mapping[int, Collection[tuple[int, str]]]) -> set[int]:
        """Give answers, by the ids of their entries, to nobody any more that do not rest on all of these documents, id
        and version; which those are. Unavailable with the ledger.
        """
        return self._ledger.of(Answers).outdate(
            found, "its knowledge base has a newer document that it does not rest on"
        )

    def _request(self, asked: LookupRequest) -> _Request:
        job = asked.job
        question, refused = None, None
        if asked.mode is CacheMode.SEMANTIC:
            refused = not_by_likeness(job)
            if refused is None and self._likeness is None:
                refused = "no embedder is loaded: `headrace models pull all-minilm-l6-v2` gets one"
            if refused is None and self._likeness is not None:
                question = Question(self._scope(job.first_model, asked), job.question, job.tenant)
        return _Request(
            asked, self._key(job.first_model, asked), self._normalised_key(job.first_model, asked), question, refused
        )

    def _placed(self, request: _Request, found: Found) -> Found:
        """Return what was found; if the job is to make an answer, with its place by each later model of its chain."""
        asked, (_, *later) = request.asked, request.asked.job.chain
        if not isinstance(found, Miss) or found.entry_id is None or not later:
            return found
        by_likeness = request.question is not None
        places = {
            model: Place(
                self._key(model, asked),
                self._scope(model, asked) if by_likeness else "",
                self._normalised_key(model, asked),
            )
            for model in later
        }
        return replace(found, places=places)

    def _key(self, model: str, asked: LookupRequest, job: GenerationJob | None = None) -> str:
        """Return the key of a request, or of another `job` in its place, with this model."""
        return key_of(job or asked.job, self._version(model), screened=asked.screened)

    def _normalised_key(self, model: str, asked: LookupRequest) -> str | None:
        if asked.mode is CacheMode.EXACT or not stands_alone(asked.job):
            return None
        return normalised_key_of(asked.job, self._version(model), screened=asked.screened)

    def _scope(self, model: str, asked: LookupRequest) -> str:
        assert self._likeness is not None  # noqa: S101 - it has no question otherwise
        return scope_of(asked.job, self._version(model), self._likeness.embedder, screened=asked.screened)

    def _same(self, request: _Request, entry: Entry | None) -> Hit | None:
        if entry is None or _too_old(request, entry):
            return None
        tier = CacheTier.COALESCED if request.asked.has_waited else CacheTier.EXACT
        return _hit(request, entry, tier)

    def _normalised(self, requests: Mapping[int, _Request]) -> dict[int, Found]:
        """Return the answers to the same questions in another form: the receipt names the tier."""
        asking = {place: each.normalised for place, each in requests.items() if each.normalised is not None}
        known = self._ledger.of(Answers).alike_but_for_form(set(asking.values())) if asking else {}
        return {
            place: _hit(requests[place], entry, CacheTier.NORMALISED)
            for place, key in asking.items()
            if (entry := known.get(key)) is not None and not _too_old(requests[place], entry)
        }

    def _near(self, requests: Sequence[tuple[int, _Request]]) -> list[_Missing]:
        asking = [request for _, request in requests if request.question is not None]
        questions = [request.question for request in asking if request.question is not None]
        explored = {place for place, request in enumerate(asking) if request.asked.explores}
        near = iter(self._likeness.nearest(questions, explored) if questions and self._likeness is not None else ())
        return [
            _Missing(place, request, Near(refused=request.refused) if request.question is None else next(near))
            for place, request in requests
        ]

    def _alive(self, missing: Sequence[_Missing]) -> dict[int, Entry]:
        """Return the living entries among the hits and near misses in memory."""
        ids = {each.near.entry_id for each in missing if each.near.entry_id is not None}
        ids |= {each.near.nearly.found.entry_id for each in missing if each.near.nearly is not None}
        return self._ledger.of(Answers).living(ids) if ids else {}

    def _verified(
        self, missing: list[_Missing], known: Mapping[int, Hit]
    ) -> tuple[list[_Missing], Mapping[int, Found]]:
        """Return the requests with what the verifier refused; and the hits that it confirmed and that still live, or
        those that it is to be asked about.
        """
        if self._verifier is None or not known:
            return missing, known
        asked = [each for each in missing if each.place in known and each.near.found is not None]
        said = self._said(asked, known)
        alive = self._alive(asked)
        found: dict[int, Found] = {}
        refused: dict[int, str] = {}
        for each in asked:
            hit = known[each.place]
            match said[each.place]:
                case Unverified() as unverified:
                    found[each.place] = unverified
                case VerifierSaid(entry_id, model, _, _) if entry_id != hit.entry_id:
                    refused[each.place] = f"the verifier {model} was asked about another question that was nearest"
                case VerifierSaid(_, model, _, HeadraceError() as error):
                    why = f"the verifier {model} gave no verdict: {reason_of(error)}"
                    refused[each.place] = why[:MAX_SHORT_TEXT]
                case VerifierSaid(_, model, provider, Verdict() as verdict):
                    if not verdict.holds:
                        why = f"the verifier {model} says that it asks for something else: {verdict.value:.2f}"
                        refused[each.place] = why
                    elif hit.entry_id in alive:
                        yes = Verified(
                            model=model, provider=provider, value=verdict.value, mass=verdict.mass, ms=verdict.ms
                        )
                        found[each.place] = replace(hit, verified=yes)
        return [_without(each, refused.get(each.place)) for each in missing], found

    def _said(self, asked: Sequence[_Missing], known: Mapping[int, Hit]) -> dict[int, VerifierSaid | Unverified]:
        """Return what the verifier says of these hits, or said before; or that its model is still to be asked."""
        verifier, pairs = self._verifier, {each.place: _pair(each) for each in asked}
        if isinstance(verifier, ModelOfVerifier):
            return {
                each.place: each.request.asked.said or verifier.asked(known[each.place].entry_id, pairs[each.place])
                for each in asked
            }
        assert verifier is not None  # noqa: S101 - nothing is verified without
        verdicts = verifier.verify(list(pairs.values()))
        return {
            place: VerifierSaid(known[place].entry_id, verifier.name, verifier.provider, verdict)
            for place, verdict in zip(pairs, verdicts, strict=True)
        }

    def _failed(self, missing: Sequence[_Missing]) -> dict[int, Found]:
        """Return the requests whose leader failed by its own request while they waited. They would fail again, and the
        leader may have killed its workers.
        """
        asking = [each.request.asked for each in missing]
        waited_for = {request.waited_for for request in asking if request.waited_for is not None}
        ends = self._ledger.of(Answers).failed(waited_for) if waited_for else {}
        return {
            each.place: Failed(
                end.category, f"the very same request of job {request.waited_for} ended so: {end.reason}"
            )
            for each in missing
            if (request := each.request.asked).waited_for is not None
            and (end := ends.get(request.waited_for)) is not None
            and self._key(end.job.first_model, request, end.job) == each.request.key
        }

    def _lately(self, missing: Sequence[_Missing]) -> dict[int, Found]:
        """Return the outcomes of requests whose answers are being made, or were a moment ago, before memory could
        know.
        """
        asking = {each.place: vectored for each in missing if (vectored := each.vectored) is not None}
        if not asking or self._likeness is None or self._verifier is not None:
            return {}
        scopes = {each.question.scope for each in asking.values()}
        changes = self._ledger.of(Answers).lately(self._likeness.followed, scopes, _LATELY)
        candidates = dict(zip(asking, self._likeness.lately(list(asking.values()), changes), strict=True))
        ids = {candidate.entry_id for each in candidates.values() for candidate in each}
        if not ids:
            return {}
        alive, leaders = self._ledger.of(Answers).living(ids), self._ledger.of(Answers).in_the_making(ids)
        came = {each.place: _came(each, candidates.get(each.place, ()), alive, leaders) for each in missing}
        return {place: each for place, each in came.items() if each is not None}

    def _made(self, missing: Sequence[_Missing], same: Mapping[str, Entry]) -> dict[int, Found]:
        """Return outcomes for requests without an answer. Of the group's requests for the same answer, the first makes
        it, or waits for the job that does; the others wait for it. `same` are exact answers that some requests did not
        want.
        """
        if not missing:
            return {}
        behind = self._behind(missing)
        first = [each for each in missing if each.place not in behind]
        led = self._ledger.of(Answers).lead([_new(each) for each in first], [entry.id for entry in same.values()])
        found: dict[int, Found] = {}
        for each in first:
            late = self._same(each.request, led.live.get(each.request.key))
            found[each.place] = late or _unserved(each, led.leaders.get(each.request.key))
        found |= self._yielding(first, found)
        by_place = {each.place: each for each in first}
        for each in missing:
            if (other := behind.get(each.place)) is not None:
                found[each.place] = _behind(each, other, by_place[other.place], found[other.place])
        return found

    def _yielding(self, first: Sequence[_Missing], found: Mapping[int, Found]) -> dict[int, Found]:
        """Return the requests that have just begun to lead and now wait after all, and who waited for them.

        For the same question in another form or in other words another job had begun before: of this group, or of
        another worker when neither could see the other.
        """
        leading = {
            each.place: (each, led.entry_id)
            for each in first
            if isinstance(led := found[each.place], Miss) and led.entry_id is not None
            if not each.request.asked.has_waited
        }
        if not leading:
            return {}
        forms = {form for each, _ in leading.values() if (form := each.request.normalised) is not None}
        alike = self._ledger.of(Answers).alike_in_the_making(forms) if forms else {}
        like = self._like_in_the_making([each for each, _ in leading.values()])
        yielding: dict[int, Found] = {}
        follows: dict[str, str] = {}
        for place, (each, own) in leading.items():
            making = [*alike.get(each.request.normalised or "", ()), *like.get(place, ())]
            other = next(
                (one for one in making if one.entry_id < own and _may_wait(_lane(each.request), one.lane)), None
            )
            if other is not None and self._ledger.of(Answers).withdraw(own):
                yielding[place] = Awaited(other.job_id)
                follows[each.request.asked.job_id] = other.job_id
        for each in first:
            if isinstance(led := found[each.place], Awaited) and led.job_id in follows:
                yielding[each.place] = Awaited(follows[led.job_id])
        return yielding

    def _like_in_the_making(self, leading: Sequence[_Missing]) -> dict[int, list[Leader]]:
        """Return who makes the answer to the same question in other words, by the place of each request."""
        asking = {each.place: vectored for each in leading if (vectored := each.vectored) is not None}
        if not asking or self._likeness is None or self._verifier is not None:
            return {}
        scopes = {vectored.question.scope for vectored in asking.values()}
        changes = self._ledger.of(Answers).lately(self._likeness.followed, scopes, _LATELY)
        same = dict(zip(asking, self._likeness.lately(list(asking.values()), changes), strict=True))
        leaders = self._ledger.of(Answers).in_the_making({each.entry_id for others in same.values() for each in others})
        return {
            place: [leaders[each.entry_id] for each in others if each.entry_id in leaders]
            for place, others in same.items()
        }

    def _behind(self, missing: Sequence[_Missing]) -> dict[int, Behind]:
        asking = [(each.place, vectored) for each in missing if (vectored := each.vectored) is not None]
        if len(asking) < 2 or self._likeness is None or self._verifier is not None:
            return {}
        found = self._likeness.behind([vectored for _, vectored in asking])
        return {
            place: Behind(asking[each.place][0], each.similarity)
            for (place, _), each in zip(asking, found, strict=True)
            if each is not None
        }


def _pair(each: _Missing) -> TextPair:
    assert each.near.found is not None  # noqa: S101 - it has a hit
    job = each.request.asked.job
    return TextPair(Relation.SAME_QUESTION, each.near.found.question, job.question, job.tenant)


def _without(each: _Missing, refused: str | None) -> _Missing:
    """Return a request without the question that the verifier refused for this reason; the same without a reason."""
    return each if refused is None else each._replace(near=each.near._replace(found=None, refused=refused))


def _known(missing: Sequence[_Missing], alive: Mapping[int, Entry]) -> dict[int, Hit]:
    """Return the live answers to the questions that memory finds."""
    return {
        each.place: hit
        for each in missing
        if each.near.found is not None and (hit := _like(each, each.near.found, alive)) is not None
    }


def _nearly(each: _Missing, alive: Mapping[int, Entry]) -> NearMiss | None:
    """Return the near miss, if its entry lives."""
    if each.near.nearly is None:
        return None
    kind, neighbour, guard = each.near.nearly
    hit = _like(each, neighbour, alive)
    if hit is None:
        return None
    return NearMiss(
        kind=kind, entry_id=hit.entry_id, scope=hit.scope, similarity=neighbour.similarity, text=hit.answer.text or "",
        guard=guard,
    )  # fmt: skip


def _explored(found: Found, nearly: NearMiss | None) -> Found:
    return replace(found, nearly=nearly) if nearly is not None and isinstance(found, Miss) else found


def _but(missing: Sequence[_Missing], found: Mapping[int, Found]) -> list[_Missing]:
    return [each for each in missing if each.place not in found]


def _new(each: _Missing) -> NewEntry:
    request = each.request
    return NewEntry(
        scope=request.question.scope if request.question else "",
        key=request.key,
        tenant=request.asked.job.tenant,
        job_id=request.asked.job_id,
        lane=_lane(request),
        normalised=request.normalised,
        question=request.question.text if request.question else None,
        vector=each.near.vector,
    )


def _came(
    each: _Missing, candidates: Sequence[Neighbour], alive: Mapping[int, Entry], leaders: Mapping[int, Leader]
) -> Found | None:
    """Return the outcome of a request that asks the same as these entries, oldest first; None if it may lead."""
    for candidate in candidates:
        if (hit := _like(each, candidate, alive)) is not None:
            return hit
    making = [leader for candidate in candidates if (leader := leaders.get(candidate.entry_id)) is not None]
    if any(leader.job_id == each.request.asked.job_id for leader in making):
        return None  # its worker died, and it is run again
    waits = next((leader for leader in making if _may_wait(_lane(each.request), leader.lane)), None)
    return None if waits is None else _waiting(each, waits.job_id)


def _like(each: _Missing, found: Neighbour, alive: Mapping[int, Entry]) -> Hit | None:
    request, entry = each.request, alive.get(found.entry_id)
    if entry is None or _too_old(request, entry):
        return None
    # A restored ledger assigns ids again, so an id in memory may have belonged to another answer.
    if (entry.scope, entry.question) != (request.question and request.question.scope, found.question):
        return None
    return _hit(request, entry, CacheTier.SEMANTIC, found.similarity, each.near.threshold)


def _behind(each: _Missing, behind: Behind, first: _Missing, found: Found) -> Found:
    """Return the outcome of a request that repeats an earlier one of its group, from the outcome `found` of the
    first."""
    match found:
        case Hit():
            most = each.request.asked.job.max_age
            if most is None or found.age <= most:
                return replace(
                    found, tier=CacheTier.SEMANTIC, similarity=behind.similarity, threshold=each.near.threshold
                )
        case Awaited():
            return _waiting(each, found.job_id)
        case Miss() if found.entry_id is not None and _may_wait(_lane(each.request), _lane(first.request)):
            return _waiting(each, first.request.asked.job_id)
    return _miss(each)


def _unserved(each: _Missing, leader: Leader | None) -> Miss | Awaited:
    """Return the outcome of a request without an answer so far."""
    if leader is None:
        return _miss(each)
    if leader.job_id == each.request.asked.job_id:
        return replace(_miss(each), entry_id=leader.entry_id)
    return _waiting(each, leader.job_id) if _may_wait(_lane(each.request), leader.lane) else _miss(each)


def _waiting(each: _Missing, job_id: str) -> Miss | Awaited:
    """Return the outcome of waiting for a job, unless the request has waited already."""
    return _miss(each) if each.request.asked.has_waited else Awaited(job_id)


def _miss(each: _Missing) -> Miss:
    near = each.near
    return Miss(similarity=near.similarity, threshold=near.threshold, refused=near.refused)


def _may_wait(lane: int, for_lane: int) -> bool:
    """Bulk work may not have begun for a long time."""
    return not (lane == INTERACTIVE and for_lane == BATCH)


def _lane(request: _Request) -> int:
    return INTERACTIVE if request.asked.job.lane is Lane.INTERACTIVE else BATCH


def _too_old(request: _Request, entry: Entry) -> bool:
    most = request.asked.job.max_age
    return most is not None and entry.age_ms > most * 1000


def _hit(
    request: _Request, entry: Entry, tier: CacheTier, similarity: float | None = None, threshold: float | None = None
) -> Hit:
    return Hit(
        entry_id=entry.id,
        scope=request.question.scope if request.question else "",
        tier=tier,
        answer=Answer.model_validate_json(entry.answer),
        first_job=entry.job_id,
        age=max(0, entry.age_ms) / 1000,
        saved_ms=entry.saved_ms,
        asked_at=entry.asked_at,
        similarity=similarity,
        threshold=threshold,
    )
