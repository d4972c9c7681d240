"""Limits of scopes in the semantic tier. A thread derives them from audits; look-ups read them from memory."""

import logging
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.charges import Prices
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.core.log import Action, log
from headrace_workers.core.outage import KeepsGoing
from headrace_workers.core.progress import Loop
from headrace_workers.features.cache.auditing import by_model, label_work
from headrace_workers.features.cache.store.audit_rows import Label, LabelWork
from headrace_workers.features.cache.store.audits import Audits
from headrace_workers.features.cache.store.standings import NOT_YET, OFF, SHOWN, ScopeStanding
from headrace_workers.models.verifiers.verifier import Relation, TextPair, Verdict, Verifier
from headrace_workers.stats.error_bounds import WINDOW, clean_audits_needed

_PAUSE: Final = 2.0  # s between two looks
_LEASE_MS: Final = 30_000
_AT_ONCE: Final = 20  # scopes
_VERIFIED_AT_ONCE: Final = 4  # audits: a model may take a second for each
_DUTY: Final = "bounds"


class Limit(NamedTuple):
    """The effect of the bound on a scope: why it is off, the similarity that its curve requires, and if it is shown."""

    off: str | None = None
    least: float | None = None
    shown: bool = False
    shadow: str | None = None  # why nothing is served by likeness yet; what would be served is audited


@dataclass(frozen=True, slots=True)
class AuditLabels:
    """The labels of a model of the deployment, for which units of work are made. `prices` are those of its calls."""

    model: str
    prices: Prices

    @property
    def by(self) -> str:
        """Return the name under which the model labels."""
        return by_model(self.model)

    def work(self, row: Any) -> LabelWork:
        """Return the work of labelling this audit."""
        return label_work(row, self.model, self.prices)


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
            by = f"verifier:{verifier.name}"
            if isinstance(verdict, Verdict):
                label: Label = "clean" if verdict.holds else "wrong"
                audits.verified(row.id, label, by, f"the same answer with a probability of {verdict.value:.2f}")
            elif not verdict.category.retryable:
                audits.verified(row.id, "unknown", by, f"the verifier gave no verdict: {reason_of(verdict)}")

    def _read(self) -> None:
        self._limits = {row.scope: self._limit_of(row) for row in self._ledger.of(Audits).limiting()}

    def _limit_of(self, row: Any) -> Limit:
        waits = row.state == NOT_YET and row.serves_by is None and not self._serves_unshown
        shadow = f"shadow: {row.sentence or NOTHING_AUDITED}" if waits else None
        return Limit(row.sentence if row.state == OFF else None, row.least, row.state == SHOWN, shadow)

    def _judge(self, scope: str, tenant: str) -> None:
        from headrace_workers.features.cache.calibration.scope_fit import fit_due, judge

        audits = self._ledger.of(Audits)
        counted = audits.counted(scope, tenant, WINDOW)
        due = fit_due(counted.before, counted.tallies, counted.other_counts)
        pairs = audits.pairs(scope, counted.before.since) if due else None
        now = judge(counted.before, counted.tallies, counted.window, self._max_error, counted.other_counts, pairs)
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
