"""Hits and near misses, from the entries of the ledger. Pure."""

from collections.abc import Mapping

from headrace_schemas import Answer
from headrace_schemas.recall import CacheTier
from headrace_workers.features.cache.semantic.found import Hit, NearMiss
from headrace_workers.features.cache.semantic.keyed_requests import KeyedRequest, Unanswered
from headrace_workers.features.cache.semantic.question_indexes import Neighbour
from headrace_workers.features.cache.store.entries import Entry


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


def semantic_hit(each: Unanswered, found: Neighbour | None, alive: Mapping[int, Entry]) -> Hit | None:
    """Return the hit for a known question that asks the same in other words; None if its answer may not be served."""
    if found is None:
        return None
    request, entry = each.request, alive.get(found.entry_id)
    if entry is None:
        return None
    # A restored ledger assigns ids again, so an id in memory may have belonged to another answer.
    if (entry.scope, entry.question) != (request.question and request.question.scope, found.question):
        return None
    return hit_of(request, entry, CacheTier.SEMANTIC, found.similarity, each.near.threshold)


def near_miss(each: Unanswered, alive: Mapping[int, Entry]) -> NearMiss | None:
    """Return what the request was nearly served; None if it is not explored, or the answer may not be served."""
    if each.near.nearly is None:
        return None
    kind, neighbour, guard = each.near.nearly
    hit = semantic_hit(each, neighbour, alive)
    if hit is None:
        return None
    return NearMiss(
        kind=kind, entry_id=hit.entry_id, scope=hit.scope, similarity=neighbour.similarity, text=hit.answer.text or "",
        guard=guard,
    )  # fmt: skip
