"""Rows and JSON of the cache: its answers, audits, and the state of scopes. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any, Final

from headrace_schemas.recall import CacheTier
from headrace_workers.cli.durations import rfc3339, show_ms, show_time
from headrace_workers.cli.output import Column
from headrace_workers.cli.receipts import shorten
from headrace_workers.features.cache.commands.explain import AuditOf, Explained, Gate
from headrace_workers.features.cache.semantic.scope_limits import Whole
from headrace_workers.features.cache.store.answers import CacheCounts, Kept
from headrace_workers.features.cache.store.audits import OfGuard, ScopeStanding
from headrace_workers.features.cache.store.removal import EXACT, AnswerOf
from headrace_workers.stats.binomial import clopper_pearson_lower, clopper_pearson_upper

BOUND_COLUMNS = (
    "scope", "tenant", "bound", "served", "audits", "unknown", "wrong", "itself", "at most", "if unknown are",
)  # fmt: skip
BOUND_RIGHT = BOUND_COLUMNS[3:]
GUARD_COLUMNS = ("guard", "refused, about", "audits", "right", "wrong", "unknown", "in vain")
GUARD_RIGHT = GUARD_COLUMNS[1:]
_SCOPE_SHOWN = 8
_ALPHA = 0.05
_WIDTH = 40
_GIVEN = {
    "hit": "it was given",
    "refused": "it was not given: a guard refused it",
    "shadow": "it was not given: its scope is in shadow",
}
_OWN = {"clean": "the same", "wrong": "another thing", "unknown": "other words"}


def bound_row(standing: ScopeStanding) -> tuple[str, ...]:
    """Return the state of a scope as the cells of `BOUND_COLUMNS`.

    `at most` counts audits with a verdict; the last column counts unknown verdicts as wrong. `itself` says how often
    the model contradicted itself when it was asked twice.
    """
    figures = standing.figures
    wrong = f"{figures['wrong']:,}" if figures.get("wrong") else "0"
    if figures.get("estimate"):
        wrong += f" ({figures['estimate']:.1%})"
    return (
        standing.scope[:_SCOPE_SHOWN], standing.tenant, standing.state,
        *(f"{figures.get(name, 0):,}" for name in ("served", "audits", "unknown")), wrong, _own(figures.get("own")),
        _percent(figures.get("upper", 1.0)), _percent(figures.get("upper_if_unknown_wrong", 1.0)),
    )  # fmt: skip


def bound_dict(standing: ScopeStanding) -> dict[str, Any]:
    """Return the state of a scope for `--json`; shares are in [0, 1], and `recent` holds the shares of the newest
    window.
    """
    return {
        "scope": standing.scope, "tenant": standing.tenant, "state": standing.state, "sentence": standing.sentence,
        **{name: value for name, value in standing.figures.items() if name != "strata"},
        "serves_by": standing.serves_by, "since": rfc3339(standing.since or None),
        "state_since": rfc3339(standing.changed_at),
    }  # fmt: skip


def whole_dict(whole: Whole | None) -> dict[str, Any] | None:
    """Return the state of all scopes together, for `--json`; null if nothing was audited."""
    if whole is None:
        return None
    return {"scopes": whole.scopes, "served": whole.served, **asdict(whole.bound)}


def whole_lines(whole: Whole | None) -> list[str]:
    """Return the state of all scopes in words: one line, or none."""
    if whole is None:
        return []
    scopes = "the one scope" if whole.scopes == 1 else f"all {whole.scopes:,} scopes together"
    return [
        f"{scopes}: of {whole.served:,} answers that likeness gave at most {_percent(whole.bound.upper)} were wrong "
        f"({_percent(whole.bound.upper_if_unknown_wrong)} if the unknown were; 95%)"
    ]


def off_lines(standings: Sequence[ScopeStanding]) -> list[str]:
    """Return a line for each scope that is off."""
    return [
        f"scope {row.scope[:_SCOPE_SHOWN]} of the tenant {row.tenant}, since {show_time(row.changed_at)}: "
        f"{row.sentence} `headrace cache serve {row.scope[:_SCOPE_SHOWN]}` turns it on again"
        for row in standings
        if row.state == "off"
    ]


def shadow_lines(standings: Sequence[ScopeStanding]) -> list[str]:
    """Return a line for each scope in shadow: its progress, and why it cannot come out by itself, if so."""
    return [
        f"scope {row.scope[:_SCOPE_SHOWN]} of the tenant {row.tenant} is in shadow and serves nothing by likeness, "
        f"unless HEADRACE_SERVE_UNSHOWN is set. {row.sentence}{_stuck(row)} `headrace cache serve "
        f"{row.scope[:_SCOPE_SHOWN]}` lets it serve before"
        for row in standings
        if row.state == "not yet shown" and row.serves_by is None
    ]


def _stuck(standing: ScopeStanding) -> str:
    audits, unknown = (standing.figures.get(name, 0) for name in ("audits", "unknown"))
    if unknown * 2 <= audits:
        return ""
    return (
        f" {unknown:,} of its {audits:,} audits have no verdict, since prose can seldom be compared: without "
        "people who label, or a model that verifies (HEADRACE_VERIFY), it stays in shadow."
    )


def audit_dict(row: Any) -> dict[str, Any]:
    """Return an audit for `--json`; texts that were deleted are null."""
    return {
        "audit": row.id, "tenant": row.tenant, "scope": row.scope, "job_id": row.job_id, "entry_id": row.entry_id,
        "similarity": row.similarity, "served_at": rfc3339(row.served_at), "question": row.question,
        "served": row.served, "fresh": row.fresh, "label": row.label, "reason": row.reason, "kind": row.kind,
    }  # fmt: skip


def _short(text: str | None) -> str:
    return shorten(text, _WIDTH) if text else "–"


AUDIT: Final[Mapping[str, Column]] = {
    "audit": "audit", "tenant": "tenant", "similarity": lambda audit: f"{audit['similarity']:.4f}",
    "asked": lambda audit: _short(audit["question"]), "served": lambda audit: _short(audit["served"]),
    "afresh": lambda audit: _short(audit["fresh"]),
}  # fmt: skip


def audit_facts(row: Any) -> list[tuple[str, str]]:
    """Return what a person must know to label an audit, as lines of name and value."""
    return [
        ("question", row.question or "(forgotten)"), ("similarity", f"{row.similarity:.4f}"), ("tenant", row.tenant),
        ("why you are asked", row.reason or ""), ("given", _given(row)),
    ]  # fmt: skip


def audit_words(audit: AuditOf) -> str:
    """Return the result of an audit in a line."""
    if audit.label is None:
        return f"{audit.audit} waits for its fresh answer"
    twice = f"; asked twice, the model says {_OWN[audit.own]}" if audit.own else ""
    return f"{audit.audit}: {audit.label}, said {audit.labelled_by}: {audit.reason} ({_given(audit)}){twice}"


def guard_rows(guards: Sequence[OfGuard]) -> list[tuple[str, ...]]:
    """Return the audits of refusals as the cells of `GUARD_COLUMNS`, a row for each guard."""
    return [
        (row.guard, f"{row.refused:,.0f}", f"{sum(row.labels):,}", *(f"{count:,}" for count in row.labels),
         "–" if (share := _needless(row)) is None else f"{_percent(share[0])} to {_percent(share[1])}")
        for row in guards
    ]  # fmt: skip


def guard_dicts(guards: Sequence[OfGuard]) -> list[dict[str, Any]]:
    """Return the audits of refusals for `--json`; `needless` is an interval of the share, null without a verdict."""
    return [
        {"guard": row.guard, "refused": round(row.refused), "audits": sum(row.labels), "right": row.labels.clean,
         "wrong": row.labels.wrong, "unknown": row.labels.unknown, "needless": _needless(row)}
        for row in guards
    ]  # fmt: skip


def _needless(guard: OfGuard) -> tuple[float, float] | None:
    """Return the 95 % interval of the share of needless refusals, of those with a verdict; None without any."""
    right, decided = guard.labels.clean, guard.labels.decided
    if not decided:
        return None
    return clopper_pearson_lower(right, decided, _ALPHA / 2), clopper_pearson_upper(right, decided, _ALPHA / 2)


def _given(audit: Any) -> str:
    """Return whether the audited answer was given, and what prevented it."""
    if audit.kind != "refused" or audit.guard is None:
        return _GIVEN[audit.kind]
    who = "several guards" if audit.guard == "several" else f"the guard {audit.guard} alone"
    return f"it was not given: {who} refused it"


def _own(own: Mapping[str, int] | None) -> str:
    return f"{own['wrong']:,} of {sum(own.values()):,}" if own and any(own.values()) else "–"


def _percent(share: float) -> str:
    return f"{share:.2%}"


TIERS = tuple(tier.value for tier in CacheTier if tier is not CacheTier.NONE)
STATES = ("live", "pending", "dead")
SCOPE_COLUMNS = ("scope", "tenant", *TIERS, "tokens saved", "time saved", *STATES)
SCOPE_RIGHT = SCOPE_COLUMNS[2:]
SERVED_COLUMNS = ("job", "tenant", "tier", "similarity", "when", "state")
GATE_COLUMNS = ("gate", "found", "needs", "passed")
GATE_RIGHT = ("found", "needs")
AGAIN_COLUMNS = ("job", "afresh as", "state")


def scope_name(scope: str) -> str:
    """Return the scope as `--scope` takes it: a unique beginning is enough."""
    return scope[:_SCOPE_SHOWN] if scope else EXACT


def kept_dict(kept: Kept) -> dict[str, Any]:
    """Return a kept answer and how often it was given, for `--json`."""
    return {
        "hits": {tier: kept.served.get(tier, 0) for tier in TIERS},
        "saved_tokens": kept.saved_tokens,
        "saved_ms": kept.saved_ms,
        "entries": {state: kept.entries.get(state, 0) for state in STATES},
    }


def counts_dict(counts: CacheCounts) -> dict[str, Any]:
    """Return the whole, for `--json`."""
    return {"asked": counts.asked, "answered": counts.answered, "open": counts.open, **kept_dict(counts.kept)}


def scope_dict(name: tuple[str, str], kept: Kept) -> dict[str, Any]:
    """Return one scope, for `--json`."""
    return {"scope": name[1] or EXACT, "tenant": name[0], **kept_dict(kept)}


def counts_tables(counts: CacheCounts) -> list[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    """Return the whole: title, columns and rows of each table."""
    kept = counts.kept
    looked_up = counts.asked - counts.open
    share = f"{counts.answered / looked_up:.1%}" if looked_up else "–"
    row = (f"{counts.asked:,}", f"{counts.answered:,}", share, f"{counts.open:,}")
    hits = (*(f"{kept.served.get(tier, 0):,}" for tier in TIERS), f"{kept.saved_tokens:,}", show_ms(kept.saved_ms))
    return [
        ("jobs that asked", ("asked", "hit", "of those looked up", "open"), [row]),
        ("hits", (*TIERS, "tokens saved", "time saved"), [hits]),
        ("answers", STATES, [tuple(f"{kept.entries.get(state, 0):,}" for state in STATES)]),
    ]


def scope_row(name: tuple[str, str], kept: Kept) -> tuple[str, ...]:
    """Return one scope as the cells of `SCOPE_COLUMNS`."""
    return (
        scope_name(name[1]), name[0], *(f"{kept.served.get(tier, 0):,}" for tier in TIERS), f"{kept.saved_tokens:,}",
        show_ms(kept.saved_ms), *(f"{kept.entries.get(state, 0):,}" for state in STATES),
    )  # fmt: skip


def ranked(scopes: Mapping[tuple[str, str], Kept]) -> list[tuple[tuple[str, str], Kept]]:
    """Return the answers with the most hits first, then the answers that save most."""
    return sorted(
        scopes.items(), key=lambda item: (-sum(item[1].served.values()), -item[1].entries.get("live", 0), item[0])
    )


def explained_dict(explained: Explained) -> dict[str, Any]:
    """Return why a job was given an answer or not, for `--json`."""
    whole = asdict(explained)
    whole["until"] = rfc3339(explained.until)
    whole["answers"] = [answer_dict(answer) for answer in explained.answers]
    if explained.audit is not None:
        whole["audit"]["labelled_at"] = rfc3339(explained.audit.labelled_at)
    return whole


def explained_rows(lookup: Explained) -> list[tuple[str, str]]:
    """Return why a job was given an answer or not, as lines of name and value; unknown values are left out."""
    near = None if lookup.similarity is None else f"{lookup.similarity:.4f}"
    saved = f"{lookup.saved_tokens:,} tokens, {show_ms(lookup.saved_ms)}" if lookup.outcome == "hit" else None
    facts = {
        "job": lookup.job_id, "outcome": lookup.outcome, "why": lookup.why, "cache": lookup.cache, "tier": lookup.tier,
        "similarity": near, "refused": lookup.refused, "age": lookup.age_ms and show_ms(lookup.age_ms),
        "first job": lookup.first_job, "saved": saved, "waits for": lookup.waits_for,
        "until": show_time(lookup.until) if lookup.until else None, "audit": _audit(lookup),
    }  # fmt: skip
    lines = [(name, value) for name, value in facts.items() if value]
    return lines + [(f"answer {answer.entry_id}", _answer_words(answer, lookup.job_id)) for answer in lookup.answers]


def gate_row(gate: Gate) -> tuple[str, ...]:
    """Return a gate as the cells of `GATE_COLUMNS`."""
    passed = {True: "yes", False: "no", None: "–"}[gate.passed]
    return (gate.gate, _number(gate.found), _number(gate.needs), passed)


def _number(value: float | str | None) -> str:
    return "–" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def _audit(explained: Explained) -> str | None:
    if explained.audit is not None:
        return audit_words(explained.audit)
    return "none: it was not drawn (HEADRACE_AUDIT_SHARE of such answers are)" if explained.tier == "semantic" else None


def answer_dict(answer: AnswerOf) -> dict[str, Any]:
    """Return an answer, for `--json`."""
    return {**asdict(answer), "scope": answer.scope or EXACT, "made_at": rfc3339(answer.made_at),
            "expires_at": rfc3339(answer.expires_at if answer.state == "live" else None)}  # fmt: skip


def served_row(row: Any) -> tuple[str, ...]:
    """Return a job that was given an answer, as the cells of `SERVED_COLUMNS`."""
    near = "–" if row.similarity is None else f"{row.similarity:.4f}"
    return (row.job_id, row.tenant, row.tier, near, show_time(row.served_at), row.state or "gone")


def served_dict(row: Any) -> dict[str, Any]:
    """Return a job that was given an answer, for `--json`."""
    return {
        "job_id": row.job_id, "tenant": row.tenant, "entry_id": row.entry_id, "tier": row.tier,
        "similarity": row.similarity, "first_job": row.first_job, "served_at": rfc3339(row.served_at),
        "state": row.state or "gone",
    }  # fmt: skip


def _answer_words(answer: AnswerOf, job_id: str) -> str:
    whose = "made by this job" if answer.first_job == job_id else f"made by {answer.first_job}"
    until = f" until {show_time(answer.expires_at)}" if answer.state == "live" else ""
    reason = f" ({answer.reason})" if answer.reason else ""
    given = {0: "given to nobody", 1: "given once"}.get(answer.served, f"given {answer.served:,} times")
    return f"{answer.state}{until}{reason}, {whose}, {given}, scope {scope_name(answer.scope)}"
