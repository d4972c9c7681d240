"""The explanation of a look-up, as `headrace cache explain` shows it."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from headrace_workers.features.cache.store.recalled import AnswerOf


@dataclass(frozen=True, slots=True)
class Gate:
    """A gate's finding, and what it needs to let an answer through: both as numbers where it measures.

    `passed` is None if that is not known. Gates that were not reached are left out.
    """

    gate: str
    found: float | str | None
    needs: float | str | None
    passed: bool | None


@dataclass(frozen=True, slots=True, kw_only=True)
class AuditOf:
    """An audit of a given answer (`hit`), or of a near miss (`below` the threshold, or `refused` by a guard).

    `guard` is the guard that alone refused it, or `several`. `label` is absent while it waits for its fresh answer,
    `labelled_at` is in ms since 1970, and `own` says how two fresh answers compare, if there were two.
    """

    audit: str
    kind: str
    guard: str | None
    label: str | None
    labelled_by: str | None
    labelled_at: int | None
    reason: str | None
    own: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explained:
    """The outcome of a look-up, and why.

    `tier`, `similarity` and the savings are set where they are known, `waits_for` and `until` (ms since 1970) while the
    job waits for another. `threshold` is the required similarity. `gates` are the gates that were reached, `answers`
    the answers that the job made or was given, and `audit` the audit of the given answer or of the near miss, if there
    is one.
    """

    job_id: str
    outcome: Literal["hit", "miss", "waits", "open", "not asked", "ended"]
    why: str
    cache: str | None = None  # what the job says
    tier: str | None = None
    similarity: float | None = None
    threshold: float | None = None
    refused: str | None = None
    age_ms: float | None = None
    first_job: str | None = None
    entry_id: int | None = None
    saved_tokens: int = 0
    saved_ms: float = 0.0
    waits_for: str | None = None
    until: int | None = None
    gates: tuple[Gate, ...] = ()
    answers: tuple["AnswerOf", ...] = ()
    audit: AuditOf | None = None
