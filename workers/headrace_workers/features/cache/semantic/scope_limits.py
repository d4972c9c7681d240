"""Limits of scopes in the semantic tier: off, in shadow, or on.

A thread derives them from audits by one bound; look-ups read them from memory.
"""

import logging
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final, NamedTuple

from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.outage import KeepsGoing
from headrace_workers.core.progress import Loop
from headrace_workers.features.cache.auditing import AuditLabels, labelled_by
from headrace_workers.features.cache.store.audits import (
    NOT_YET,
    OFF,
    SHOWN,
    Audits,
    Counted,
    ScopeStanding,
    Tally,
)
from headrace_workers.features.cache.store.audits import State as ScopeState
from headrace_workers.models.verifiers.verifier import Relation, TextPair, Verdict, Verifier
from headrace_workers.stats.error_bounds import (
    WINDOW,
    Bound,
    Recent,
    State,
    Stratum,
    clean_audits_needed,
    served_error,
    standing,
)

_PAUSE: Final = 2.0  # s between two looks
_LEASE_MS: Final = 30_000
_AT_ONCE: Final = 20  # scopes
_VERIFIED_AT_ONCE: Final = 4  # audits: a model may take a second for each
_DUTY: Final = "bounds"
_ALPHA: Final = 0.05
_SCOPE_STATES: Final[dict[State, ScopeState]] = {State.NOT_YET_SHOWN: NOT_YET, State.HOLDS: SHOWN, State.BROKEN: OFF}


class Limit(NamedTuple):
    """The effect of the bound on a scope: why it is off, or in shadow."""

    off: str | None = None
    shadow: str | None = None  # why nothing is served by likeness yet; what would be served is audited


NOTHING_AUDITED: Final = "nothing was audited yet"
_UNREAD: Final = Limit(off="this worker has just begun, and does not know yet whether its scope is off")


class ScopeLimits(KeepsGoing):
    """Thread that follows the scopes' state and judges scopes with new labels; one worker at a time judges. Look-ups
    call `limit`.
    """

    def __init__(
        self,
        ledger: Ledger,
        max_error: float,
        worker: str,
        loop: Loop,
        *,
        serves_unshown: bool = False,
        verifier: Verifier | AuditLabels | None = None,
    ) -> None:
        super().__init__(loop)
        self._verifier = verifier
        self._serves_unshown = serves_unshown
        self._shadow = None if serves_unshown else Limit(shadow=shadow_sentence(max_error))
        self._ledger = ledger
        self._max_error = max_error
        self._worker = worker
        self._limits: dict[str, Limit] | None = None

    def limit(self, scope: str) -> Limit | None:
        """Return the effect of the bound on this scope; None if nothing limits it. Before the first look all scopes are
        off. A scope that nothing is known of is in shadow, unless the deployment serves before a bound is shown.
        """
        limits = self._limits
        return _UNREAD if limits is None else limits.get(scope, self._shadow)

    def once(self) -> int:
        """Read how all stand, and judge what is due; how many were judged. Unavailable with the ledger."""
        self._read()  # first: nothing is served by likeness before
        audits = self._ledger.of(Audits)
        audits.give_up()
        if self._verifier is not None and self._ledger.hold(_DUTY, self._worker, _LEASE_MS):
            self._verify(self._verifier)
        scopes = audits.unjudged(_AT_ONCE)
        if not scopes or not self._ledger.hold(_DUTY, self._worker, _LEASE_MS):
            return 0
        for scope, tenant in scopes:
            self._judge(scope, tenant)
            self._progress.beat()
        self._read()
        return len(scopes)

    def _verify(self, verifier: Verifier | AuditLabels) -> None:
        """Let the verifier label some audits that a comparison left unknown; one that it cannot tell stays unknown. A
        model of the deployment labels them in a stage of its own.
        """
        audits = self._ledger.of(Audits)
        rows = audits.unverified(_VERIFIED_AT_ONCE)
        if isinstance(verifier, AuditLabels):
            if rows:
                audits.ask([verifier.work(row) for row in rows], verifier.by)
            return
        pairs = [TextPair(Relation.SAME_ANSWER, row.served, row.fresh, row.tenant, row.question) for row in rows]
        for row, verdict in zip(rows, verifier.verify(pairs), strict=True):
            self._progress.beat()
            if isinstance(verdict, Verdict) or not verdict.category.retryable:
                audits.verified(labelled_by(verifier.name, row.id, verdict))

    def _read(self) -> None:
        self._limits = {row.scope: self._limit_of(row) for row in self._ledger.of(Audits).limiting()}

    def _limit_of(self, row: Any) -> Limit:
        waits = row.state == NOT_YET and row.serves_by is None and not self._serves_unshown
        shadow = f"shadow: {row.sentence or NOTHING_AUDITED}" if waits else None
        return Limit(row.sentence if row.state == OFF else None, shadow)

    def _judge(self, scope: str, tenant: str) -> None:
        audits = self._ledger.of(Audits)
        counted = audits.counted(scope, tenant, WINDOW)
        now = judge(counted, self._max_error)
        audits.judge(now, counted.seen)
        if now.state == OFF and counted.before.state != OFF:
            self._say_off(now)

    def _say_off(self, now: ScopeStanding) -> None:
        log("recall", logging.ERROR, Action.SCOPE_OFF, now.sentence, scope=now.scope, tenant=now.tenant)

    def _look(self) -> None:
        self.once()
        self._stop.wait(_PAUSE)


def shadow_sentence(max_error: float) -> str:
    """Return why a new scope serves nothing by likeness."""
    needed = clean_audits_needed(max_error)
    return f"shadow: {NOTHING_AUDITED}, and it takes at least {needed:,} clean labels to serve by likeness"


def judge(counted: Counted, max_error: float) -> ScopeStanding:
    """Return the state of a scope after these audits. A scope that was off stays off. Other counts are reported, and
    change no state.
    """
    before, window, strata = counted.before, counted.window, _strata(counted.tallies)
    recent = Recent(window.number, _strata(window.tallies)) if window.number > 1 else None
    now = standing(strata, max_error, recent=recent, alpha=_ALPHA)
    return ScopeStanding(
        scope=before.scope,
        tenant=before.tenant,
        state=_SCOPE_STATES[now.state] if before.state != OFF else OFF,
        sentence=now.sentence if before.state != OFF else before.sentence,
        figures={
            "max_error": max_error,
            "served": sum(tally.served for tally in counted.tallies),
            **_figures(now.bound),
            "recent": None if now.recent is None else _figures(now.recent),
            "strata": [[stratum.served, stratum.clean, stratum.wrong, stratum.unknown] for stratum in strata],
            "refused": counted.other_counts.refused._asdict(),
            "own": counted.other_counts.own._asdict(),
        },
        since=before.since,
    )


@dataclass(frozen=True, slots=True)
class Whole:
    """The error among the semantic hits of all scopes. It may be looked at after every audit."""

    scopes: int
    served: int
    bound: Bound


def together(scopes: Sequence[ScopeStanding]) -> Whole | None:
    """Return the error of all scopes together, as they were last judged; None where none was.

    It is bounded as that of one scope is, with every stratum of every scope as a stratum of it.
    """
    judged = [scope.figures for scope in scopes if scope.figures.get("strata")]
    if not judged:
        return None
    strata = [Stratum(*counts) for figures in judged for counts in figures["strata"]]
    return Whole(len(judged), sum(stratum.served for stratum in strata), served_error(strata, _ALPHA))


def _strata(tallies: Sequence[Tally]) -> list[Stratum]:
    return [Stratum(tally.served, *tally.labels) for tally in tallies]


def _figures(bound: Bound) -> dict[str, Any]:
    return {**asdict(bound), "clean": bound.clean}
