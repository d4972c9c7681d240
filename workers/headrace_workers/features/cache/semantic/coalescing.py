"""Request coalescing: of the requests for one answer a leader makes it, and the others wait for the leader's job."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from headrace_schemas.recall import CacheTier
from headrace_workers.core.ledger.steps import BATCH, INTERACTIVE
from headrace_workers.features.cache.semantic.keyed_requests import RequestKeys, Unanswered, hit_of, semantic_hit
from headrace_workers.features.cache.semantic.lookup_types import Awaited, Failed, Hit, LookupResult, Miss
from headrace_workers.features.cache.semantic.nearest import Behind, NearestQuestions
from headrace_workers.features.cache.semantic.question_indexes import Neighbour
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.entries import Entry, Leader, NewEntry

_LATELY: Final = 500  # changes that are looked at, beside memory


class Coalescing:
    """The leaders of one ledger. Thread-safe. Without `likeness` a request waits only for a leader with one of its own
    keys.
    """

    def __init__(self, answers: Answers, keys: RequestKeys, likeness: NearestQuestions | None) -> None:
        self._answers = answers
        self._keys = keys
        self._likeness = likeness

    def outcomes(self, unanswered: Sequence[Unanswered], same: Mapping[str, Entry]) -> dict[int, LookupResult]:
        """Return the outcomes of requests without a hit, by position.

        A request for which nobody makes the answer is noted as its leader. `same` are exact answers that some of the
        requests did not want.
        """
        results: dict[int, LookupResult] = dict(self._failed(unanswered))
        results |= self._lately(still_without(unanswered, results))
        results |= self._led(still_without(unanswered, results), same)
        return results

    def _failed(self, unanswered: Sequence[Unanswered]) -> dict[int, Failed]:
        """Return the requests whose leader failed by its own request while they waited. They would fail again, and the
        leader may have killed its workers.
        """
        asking = [lookup.request.asked for lookup in unanswered]
        waited_for = {request.waited_for for request in asking if request.waited_for is not None}
        ends = self._answers.failed(waited_for) if waited_for else {}
        return {
            lookup.position: Failed(
                end.category, f"the very same request of job {request.waited_for} ended so: {end.reason}"
            )
            for lookup in unanswered
            if (request := lookup.request.asked).waited_for is not None
            and (end := ends.get(request.waited_for)) is not None
            and self._keys.exact(end.job.first_model, request, end.job) == lookup.request.key
        }

    def _lately(self, unanswered: Sequence[Unanswered]) -> dict[int, LookupResult]:
        """Return the outcomes of requests whose answers are being made, or were a moment ago, before memory could
        know.
        """
        candidates = self._like_lately(unanswered)
        ids = {candidate.entry_id for neighbours in candidates.values() for candidate in neighbours}
        if not ids:
            return {}
        alive, leaders = self._answers.living(ids), self._answers.in_the_making(ids)
        return {
            lookup.position: result
            for lookup in unanswered
            if (result := _came(lookup, candidates.get(lookup.position, ()), alive, leaders)) is not None
        }

    def _led(self, unanswered: Sequence[Unanswered], same: Mapping[str, Entry]) -> dict[int, LookupResult]:
        """Return the outcomes of requests that have to lead or to wait. Of the group's requests for the same answer,
        the first leads, or waits for the job that does; the others wait for it.
        """
        if not unanswered:
            return {}
        behind = self._behind(unanswered)
        first = {lookup.position: lookup for lookup in unanswered if lookup.position not in behind}
        led = self._answers.lead([_new(lookup) for lookup in first.values()], [entry.id for entry in same.values()])
        results: dict[int, LookupResult] = {}
        for lookup in first.values():
            late = hit_of(lookup.request, led.live.get(lookup.request.key), CacheTier.EXACT)
            results[lookup.position] = late or _unserved(lookup, led.leaders.get(lookup.request.key))
        results |= self._yielding(list(first.values()), results)
        for lookup in unanswered:
            if (other := behind.get(lookup.position)) is not None:
                results[lookup.position] = _behind(lookup, other, first[other.position], results[other.position])
        return results

    def _yielding(self, first: Sequence[Unanswered], results: Mapping[int, LookupResult]) -> dict[int, LookupResult]:
        """Return the requests that have just begun to lead and now wait after all, and who waited for them.

        For the same question in another form or in other words another job had begun before: of this group, or of
        another worker when neither could see the other.
        """
        leading = {
            lookup.position: (lookup, led.entry_id)
            for lookup in first
            if isinstance(led := results[lookup.position], Miss) and led.entry_id is not None
            if not lookup.request.asked.has_waited
        }
        if not leading:
            return {}
        making = self._in_the_making([lookup for lookup, _ in leading.values()])
        yielding: dict[int, LookupResult] = {}
        follows: dict[str, str] = {}
        for position, (lookup, own) in leading.items():
            earlier = (
                one for one in making[position] if one.entry_id < own and _may_wait(lookup.request.lane, one.lane)
            )
            other = next(earlier, None)
            if other is not None and self._answers.withdraw(own):
                yielding[position] = Awaited(other.job_id)
                follows[lookup.request.asked.job_id] = other.job_id
        for lookup in first:
            if isinstance(led := results[lookup.position], Awaited) and led.job_id in follows:
                yielding[lookup.position] = Awaited(follows[led.job_id])
        return yielding

    def _in_the_making(self, leading: Sequence[Unanswered]) -> dict[int, list[Leader]]:
        """Return who makes the answer to the same question in another form, and then in other words, by the position of
        each request.
        """
        forms = {form for lookup in leading if (form := lookup.request.normalised) is not None}
        alike = self._answers.alike_in_the_making(forms) if forms else {}
        like = self._like_lately(leading)
        ids = {other.entry_id for others in like.values() for other in others}
        leaders = self._answers.in_the_making(ids) if ids else {}
        return {
            lookup.position: [
                *alike.get(lookup.request.normalised or "", ()),
                *(leaders[other.entry_id] for other in like.get(lookup.position, ()) if other.entry_id in leaders),
            ]
            for lookup in leading
        }

    def _like_lately(self, unanswered: Sequence[Unanswered]) -> dict[int, list[Neighbour]]:
        """Return the entries that ask the same in other words and are being made, or were a moment ago, by the
        position of each request.
        """
        asking = {lookup.position: vectored for lookup in unanswered if (vectored := lookup.vectored) is not None}
        if not asking or self._likeness is None:
            return {}
        scopes = {vectored.question.scope for vectored in asking.values()}
        changes = self._answers.lately(self._likeness.followed, scopes, _LATELY)
        return dict(zip(asking, self._likeness.lately(list(asking.values()), changes), strict=True))

    def _behind(self, unanswered: Sequence[Unanswered]) -> dict[int, Behind]:
        """Return the requests that repeat an earlier one of the group in other words, with the position of that one."""
        asking = [(lookup.position, vectored) for lookup in unanswered if (vectored := lookup.vectored) is not None]
        if len(asking) < 2 or self._likeness is None:
            return {}
        result = self._likeness.behind([vectored for _, vectored in asking])
        return {
            position: Behind(asking[behind.position][0], behind.similarity)
            for (position, _), behind in zip(asking, result, strict=True)
            if behind is not None
        }


def still_without(unanswered: Sequence[Unanswered], results: Mapping[int, LookupResult]) -> list[Unanswered]:
    """Return the requests that have no outcome yet."""
    return [lookup for lookup in unanswered if lookup.position not in results]


def _new(lookup: Unanswered) -> NewEntry:
    request = lookup.request
    return NewEntry(
        scope=request.scope,
        key=request.key,
        tenant=request.asked.job.tenant,
        job_id=request.asked.job_id,
        lane=request.lane,
        normalised=request.normalised,
        question=request.question.text if request.question else None,
        vector=lookup.near.vector,
    )


def _came(
    lookup: Unanswered, candidates: Sequence[Neighbour], alive: Mapping[int, Entry], leaders: Mapping[int, Leader]
) -> LookupResult | None:
    """Return the outcome of a request that asks the same as these entries, oldest first; None if it may lead."""
    for candidate in candidates:
        if (hit := semantic_hit(lookup, candidate, alive)) is not None:
            return hit
    making = [leader for candidate in candidates if (leader := leaders.get(candidate.entry_id)) is not None]
    if any(leader.job_id == lookup.request.asked.job_id for leader in making):
        return None  # its worker died, and it is run again
    waits = next((leader for leader in making if _may_wait(lookup.request.lane, leader.lane)), None)
    return None if waits is None else _waiting(lookup, waits.job_id)


def _behind(lookup: Unanswered, behind: Behind, first: Unanswered, result: LookupResult) -> LookupResult:
    """Return the outcome of a request that repeats an earlier one of its group, from the outcome `result` of the
    first."""
    match result:
        case Hit():
            most = lookup.request.asked.job.max_age
            if most is None or result.age <= most:
                return replace(
                    result, tier=CacheTier.SEMANTIC, similarity=behind.similarity, threshold=lookup.near.threshold
                )
        case Awaited():
            return _waiting(lookup, result.job_id)
        case Miss() if result.entry_id is not None and _may_wait(lookup.request.lane, first.request.lane):
            return _waiting(lookup, first.request.asked.job_id)
    return _miss(lookup)


def _unserved(lookup: Unanswered, leader: Leader | None) -> Miss | Awaited:
    """Return the outcome of a request without an answer so far."""
    if leader is None:
        return _miss(lookup)
    if leader.job_id == lookup.request.asked.job_id:
        return replace(_miss(lookup), entry_id=leader.entry_id)
    return _waiting(lookup, leader.job_id) if _may_wait(lookup.request.lane, leader.lane) else _miss(lookup)


def _waiting(lookup: Unanswered, job_id: str) -> Miss | Awaited:
    """Return the outcome of waiting for a job, unless the request has waited already."""
    return _miss(lookup) if lookup.request.asked.has_waited else Awaited(job_id)


def _miss(lookup: Unanswered) -> Miss:
    near = lookup.near
    return Miss(similarity=near.similarity, threshold=near.threshold, refused=near.refused)


def _may_wait(lane: int, for_lane: int) -> bool:
    """Bulk work may not have begun for a long time."""
    return not (lane == INTERACTIVE and for_lane == BATCH)
