"""Request coalescing: of the requests for one answer a leader makes it, and the others wait for the leader's job."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from headrace_schemas.recall import CacheTier
from headrace_workers.core.ledger.steps import BATCH, INTERACTIVE
from headrace_workers.features.cache.semantic.keyed_requests import RequestKeys, Unanswered, hit_of, semantic_hit
from headrace_workers.features.cache.semantic.lookup_types import Awaited, Failed, Hit, LookupResult, Miss
from headrace_workers.features.cache.semantic.nearest import Behind, Likeness
from headrace_workers.features.cache.semantic.question_indexes import Neighbour
from headrace_workers.features.cache.store.answers import Answers
from headrace_workers.features.cache.store.entries import Entry, Leader, NewEntry

_LATELY: Final = 500  # changes that are looked at, beside memory


class Coalescing:
    """The leaders of one ledger. Thread-safe. Without `likeness` a request waits only for a leader with one of its own
    keys.
    """

    def __init__(self, answers: Answers, keys: RequestKeys, likeness: Likeness | None) -> None:
        self._answers = answers
        self._keys = keys
        self._likeness = likeness

    def outcomes(self, unanswered: Sequence[Unanswered], same: Mapping[str, Entry]) -> dict[int, LookupResult]:
        """Return the outcomes of requests without a hit, by place. A request for which nobody makes the answer is noted
        as its leader. `same` are exact answers that some of the requests did not want.
        """
        found: dict[int, LookupResult] = dict(self._failed(unanswered))
        found |= self._lately(still_without(unanswered, found))
        found |= self._led(still_without(unanswered, found), same)
        return found

    def _failed(self, unanswered: Sequence[Unanswered]) -> dict[int, Failed]:
        """Return the requests whose leader failed by its own request while they waited. They would fail again, and the
        leader may have killed its workers.
        """
        asking = [each.request.asked for each in unanswered]
        waited_for = {request.waited_for for request in asking if request.waited_for is not None}
        ends = self._answers.failed(waited_for) if waited_for else {}
        return {
            each.place: Failed(
                end.category, f"the very same request of job {request.waited_for} ended so: {end.reason}"
            )
            for each in unanswered
            if (request := each.request.asked).waited_for is not None
            and (end := ends.get(request.waited_for)) is not None
            and self._keys.exact(end.job.first_model, request, end.job) == each.request.key
        }

    def _lately(self, unanswered: Sequence[Unanswered]) -> dict[int, LookupResult]:
        """Return the outcomes of requests whose answers are being made, or were a moment ago, before memory could
        know.
        """
        candidates = self._like_lately(unanswered)
        ids = {candidate.entry_id for each in candidates.values() for candidate in each}
        if not ids:
            return {}
        alive, leaders = self._answers.living(ids), self._answers.in_the_making(ids)
        came = {each.place: _came(each, candidates.get(each.place, ()), alive, leaders) for each in unanswered}
        return {place: each for place, each in came.items() if each is not None}

    def _led(self, unanswered: Sequence[Unanswered], same: Mapping[str, Entry]) -> dict[int, LookupResult]:
        """Return the outcomes of requests that have to lead or to wait. Of the group's requests for the same answer,
        the first leads, or waits for the job that does; the others wait for it.
        """
        if not unanswered:
            return {}
        behind = self._behind(unanswered)
        first = {each.place: each for each in unanswered if each.place not in behind}
        led = self._answers.lead([_new(each) for each in first.values()], [entry.id for entry in same.values()])
        found: dict[int, LookupResult] = {}
        for each in first.values():
            late = hit_of(each.request, led.live.get(each.request.key), CacheTier.EXACT)
            found[each.place] = late or _unserved(each, led.leaders.get(each.request.key))
        found |= self._yielding(list(first.values()), found)
        for each in unanswered:
            if (other := behind.get(each.place)) is not None:
                found[each.place] = _behind(each, other, first[other.place], found[other.place])
        return found

    def _yielding(self, first: Sequence[Unanswered], found: Mapping[int, LookupResult]) -> dict[int, LookupResult]:
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
        making = self._in_the_making([each for each, _ in leading.values()])
        yielding: dict[int, LookupResult] = {}
        follows: dict[str, str] = {}
        for place, (each, own) in leading.items():
            earlier = (one for one in making[place] if one.entry_id < own and _may_wait(each.request.lane, one.lane))
            other = next(earlier, None)
            if other is not None and self._answers.withdraw(own):
                yielding[place] = Awaited(other.job_id)
                follows[each.request.asked.job_id] = other.job_id
        for each in first:
            if isinstance(led := found[each.place], Awaited) and led.job_id in follows:
                yielding[each.place] = Awaited(follows[led.job_id])
        return yielding

    def _in_the_making(self, leading: Sequence[Unanswered]) -> dict[int, list[Leader]]:
        """Return who makes the answer to the same question in another form, and then in other words, by the place of
        each request.
        """
        forms = {form for each in leading if (form := each.request.normalised) is not None}
        alike = self._answers.alike_in_the_making(forms) if forms else {}
        like = self._like_lately(leading)
        ids = {other.entry_id for others in like.values() for other in others}
        leaders = self._answers.in_the_making(ids) if ids else {}
        return {
            each.place: [
                *alike.get(each.request.normalised or "", ()),
                *(leaders[other.entry_id] for other in like.get(each.place, ()) if other.entry_id in leaders),
            ]
            for each in leading
        }

    def _like_lately(self, unanswered: Sequence[Unanswered]) -> dict[int, list[Neighbour]]:
        """Return the entries that ask the same in other words and are being made, or were a moment ago, by the place of
        each request.
        """
        asking = {each.place: vectored for each in unanswered if (vectored := each.vectored) is not None}
        if not asking or self._likeness is None:
            return {}
        scopes = {vectored.question.scope for vectored in asking.values()}
        changes = self._answers.lately(self._likeness.followed, scopes, _LATELY)
        return dict(zip(asking, self._likeness.lately(list(asking.values()), changes), strict=True))

    def _behind(self, unanswered: Sequence[Unanswered]) -> dict[int, Behind]:
        """Return the requests that repeat an earlier one of the group in other words, with the place of that one."""
        asking = [(each.place, vectored) for each in unanswered if (vectored := each.vectored) is not None]
        if len(asking) < 2 or self._likeness is None:
            return {}
        found = self._likeness.behind([vectored for _, vectored in asking])
        return {
            place: Behind(asking[each.place][0], each.similarity)
            for (place, _), each in zip(asking, found, strict=True)
            if each is not None
        }


def still_without(unanswered: Sequence[Unanswered], found: Mapping[int, LookupResult]) -> list[Unanswered]:
    """Return the requests that have no outcome yet."""
    return [each for each in unanswered if each.place not in found]


def _new(each: Unanswered) -> NewEntry:
    request = each.request
    return NewEntry(
        scope=request.scope,
        key=request.key,
        tenant=request.asked.job.tenant,
        job_id=request.asked.job_id,
        lane=request.lane,
        normalised=request.normalised,
        question=request.question.text if request.question else None,
        vector=each.near.vector,
    )


def _came(
    each: Unanswered, candidates: Sequence[Neighbour], alive: Mapping[int, Entry], leaders: Mapping[int, Leader]
) -> LookupResult | None:
    """Return the outcome of a request that asks the same as these entries, oldest first; None if it may lead."""
    for candidate in candidates:
        if (hit := semantic_hit(each, candidate, alive)) is not None:
            return hit
    making = [leader for candidate in candidates if (leader := leaders.get(candidate.entry_id)) is not None]
    if any(leader.job_id == each.request.asked.job_id for leader in making):
        return None  # its worker died, and it is run again
    waits = next((leader for leader in making if _may_wait(each.request.lane, leader.lane)), None)
    return None if waits is None else _waiting(each, waits.job_id)


def _behind(each: Unanswered, behind: Behind, first: Unanswered, found: LookupResult) -> LookupResult:
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
        case Miss() if found.entry_id is not None and _may_wait(each.request.lane, first.request.lane):
            return _waiting(each, first.request.asked.job_id)
    return _miss(each)


def _unserved(each: Unanswered, leader: Leader | None) -> Miss | Awaited:
    """Return the outcome of a request without an answer so far."""
    if leader is None:
        return _miss(each)
    if leader.job_id == each.request.asked.job_id:
        return replace(_miss(each), entry_id=leader.entry_id)
    return _waiting(each, leader.job_id) if _may_wait(each.request.lane, leader.lane) else _miss(each)


def _waiting(each: Unanswered, job_id: str) -> Miss | Awaited:
    """Return the outcome of waiting for a job, unless the request has waited already."""
    return _miss(each) if each.request.asked.has_waited else Awaited(job_id)


def _miss(each: Unanswered) -> Miss:
    near = each.near
    return Miss(similarity=near.similarity, threshold=near.threshold, refused=near.refused)


def _may_wait(lane: int, for_lane: int) -> bool:
    """Bulk work may not have begun for a long time."""
    return not (lane == INTERACTIVE and for_lane == BATCH)
