"""The gates that a look-up passed or at which it stopped, each with its numbers. Pure."""

from collections.abc import Iterator

from headrace_schemas import GenerationJob
from headrace_schemas.recall import CacheMode, CacheTier
from headrace_workers.features.cache.commands.explained import Explained, Gate

_BEFORE = {CacheTier.EXACT: "answered before", CacheTier.COALESCED: "being made by another job"}
_ASKED = "exact, normalised or semantic"
_UNSEEN = ("not asked", "open", "ended")  # nothing was looked up


def gates(found: Explained, asks: GenerationJob | None) -> tuple[Gate, ...]:
    """Return the gates of a look-up in the order in which it reaches them. `asks` is the job, if it is still known."""
    mode = found.cache or (None if found.outcome == "not asked" else _ASKED)
    requested = Gate("asks for it", mode, _ASKED, found.outcome != "not asked")
    return (requested,) if found.outcome in _UNSEEN else (requested, *_looked_up(found, asks))


def _looked_up(found: Explained, asks: GenerationJob | None) -> Iterator[Gate]:
    before = _BEFORE.get(CacheTier(found.tier)) if found.tier else None
    if found.outcome == "waits":
        yield Gate("same question", "being made by another job", "an answer that is there", False)
        return
    yield Gate("very same request", before or "not known", "answered, or being made", before is not None)
    normalised = found.tier == CacheTier.NORMALISED
    if before is None and found.cache != CacheMode.EXACT:
        yield Gate("same normalised question", "answered before" if normalised else "not known", "answered", normalised)
    if before is None and not normalised and found.cache not in (CacheMode.EXACT, CacheMode.NORMALISED):
        yield from _by_likeness(found)
    if found.outcome == "hit":
        yield Gate("age, s", _seconds(found.age_ms), None if asks is None else asks.max_age, True)


def _by_likeness(found: Explained) -> Iterator[Gate]:
    """Yield the gates of a semantic look-up: a lone question, a scope that is on, the similarity, the guards, the
    entry.
    """
    hit, near, least = found.outcome == "hit", found.similarity, found.threshold
    if near is None:
        # Nothing was near: because it may not be looked up by likeness, or since nothing is known in its scope.
        yield Gate("by likeness", found.refused or "no question is known", "a known question", False)
        return
    reached = hit or (near >= least if least is not None else not (found.refused or "").startswith("similarity "))
    yield Gate("similarity", near, least, reached)
    if not reached:
        return
    refused = None if hit else found.refused
    yield Gate("guards", refused or "none refuses", "none refuses", refused is None)
    if not hit and refused is None:
        yield Gate("the answer", "too old for `max_age`, or dead", "live", False)


def _seconds(age_ms: float | None) -> float | None:
    return None if age_ms is None else age_ms / 1_000
