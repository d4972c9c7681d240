"""Rows and JSON of the ledger's cache data. Pure."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from headrace_schemas.recall import CacheTier
from headrace_workers.cli.durations import rfc3339, show_ms, show_time
from headrace_workers.features.cache.commands.bound_views import audit_words
from headrace_workers.features.cache.store.purge import EXACT

if TYPE_CHECKING:
    from headrace_workers.features.cache.commands.explained import Explained, Gate
    from headrace_workers.features.cache.commands.rerun import Rerun
    from headrace_workers.features.cache.store.recall_counts import CacheCounts, Kept
    from headrace_workers.features.cache.store.recalled import AnswerOf

TIERS = tuple(tier.value for tier in CacheTier if tier is not CacheTier.NONE)
STATES = ("live", "pending", "dead")
SCOPE_COLUMNS = ("scope", "tenant", *TIERS, "tokens saved", "time saved", *STATES)
SCOPE_RIGHT = SCOPE_COLUMNS[2:]
SERVED_COLUMNS = ("job", "tenant", "tier", "similarity", "when", "state")
GATE_COLUMNS = ("gate", "found", "needs", "passed")
GATE_RIGHT = ("found", "needs")
AGAIN_COLUMNS = ("job", "afresh as", "state")
_SCOPE_SHOWN = 8


def scope_name(scope: str) -> str:
    """Return the scope as `--scope` takes it: a unique beginning is enough."""
    return scope[:_SCOPE_SHOWN] if scope else EXACT


def kept_dict(kept: "Kept") -> dict[str, Any]:
    """Return a kept answer and how often it was given, for `--json`."""
    return {
        "hits": {tier: kept.served.get(tier, 0) for tier in TIERS},
        "saved_tokens": kept.saved_tokens,
        "saved_ms": kept.saved_ms,
        "entries": {state: kept.entries.get(state, 0) for state in STATES},
    }


def counts_dict(found: "CacheCounts") -> dict[str, Any]:
    """Return the whole, for `--json`."""
    return {"asked": found.asked, "answered": found.answered, "open": found.open, **kept_dict(found.kept)}


def scope_dict(name: tuple[str, str], kept: "Kept") -> dict[str, Any]:
    """Return one scope, for `--json`."""
    return {"scope": name[1] or EXACT, "tenant": name[0], **kept_dict(kept)}


def counts_tables(found: "CacheCounts") -> list[tuple[str, Sequence[str], list[tuple[str, ...]]]]:
    """Return the whole: title, columns and rows of each table."""
    kept = found.kept
    looked_up = found.asked - found.open
    share = f"{found.answered / looked_up:.1%}" if looked_up else "–"
    row = (f"{found.asked:,}", f"{found.answered:,}", share, f"{found.open:,}")
    hits = (*(f"{kept.served.get(tier, 0):,}" for tier in TIERS), f"{kept.saved_tokens:,}", show_ms(kept.saved_ms))
    return [
        ("jobs that asked", ("asked", "hit", "of those looked up", "open"), [row]),
        ("hits", (*TIERS, "tokens saved", "time saved"), [hits]),
        ("answers", STATES, [tuple(f"{kept.entries.get(state, 0):,}" for state in STATES)]),
    ]


def scope_row(name: tuple[str, str], kept: "Kept") -> tuple[str, ...]:
    """Return one scope as the cells of `SCOPE_COLUMNS`."""
    return (
        scope_name(name[1]), name[0], *(f"{kept.served.get(tier, 0):,}" for tier in TIERS), f"{kept.saved_tokens:,}",
        show_ms(kept.saved_ms), *(f"{kept.entries.get(state, 0):,}" for state in STATES),
    )  # fmt: skip


def ranked(scopes: Mapping[tuple[str, str], "Kept"]) -> list[tuple[tuple[str, str], "Kept"]]:
    """Return the answers with the most hits first, then the answers that save most."""
    return sorted(
        scopes.items(), key=lambda item: (-sum(item[1].served.values()), -item[1].entries.get("live", 0), item[0])
    )


def explained_dict(found: "Explained") -> dict[str, Any]:
    """Return why a job was given an answer or not, for `--json`."""
    whole = asdict(found)
    whole["until"] = rfc3339(found.until)
    whole["answers"] = [answer_dict(answer) for answer in found.answers]
    if found.audit is not None:
        whole["audit"]["labelled_at"] = rfc3339(found.audit.labelled_at)
    return whole


def explained_rows(found: "Explained") -> list[tuple[str, str]]:
    """Return why a job was given an answer or not, as lines of name and value; unknown values are left out."""
    near = None if found.similarity is None else f"{found.similarity:.4f}"
    saved = f"{found.saved_tokens:,} tokens, {show_ms(found.saved_ms)}" if found.outcome == "hit" else None
    facts = {
        "job": found.job_id, "outcome": found.outcome, "why": found.why, "cache": found.cache, "tier": found.tier,
        "similarity": near, "refused": found.refused, "age": found.age_ms and show_ms(found.age_ms),
        "first job": found.first_job, "saved": saved, "waits for": found.waits_for,
        "until": show_time(found.until) if found.until else None, "audit": _audit(found),
    }  # fmt: skip
    lines = [(name, value) for name, value in facts.items() if value]
    return lines + [(f"answer {answer.entry_id}", _answer_words(answer, found.job_id)) for answer in found.answers]


def gate_row(gate: "Gate") -> tuple[str, ...]:
    """Return a gate as the cells of `GATE_COLUMNS`."""
    passed = {True: "yes", False: "no", None: "–"}[gate.passed]
    return (gate.gate, _number(gate.found), _number(gate.needs), passed)


def _number(value: float | str | None) -> str:
    return "–" if value is None else value if isinstance(value, str) else f"{value:.6g}"


def _audit(found: "Explained") -> str | None:
    if found.audit is not None:
        return audit_words(found.audit)
    return "none: it was not drawn (HEADRACE_AUDIT_SHARE of such answers are)" if found.tier == "semantic" else None


def answer_dict(answer: "AnswerOf") -> dict[str, Any]:
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


def again_row(again: "Rerun") -> tuple[str, ...]:
    """Return a job that was sent again, as the cells of `AGAIN_COLUMNS`."""
    return (again.job_id, again.rerun or "–", again.state)


def _answer_words(answer: "AnswerOf", job_id: str) -> str:
    whose = "made by this job" if answer.first_job == job_id else f"made by {answer.first_job}"
    until = f" until {show_time(answer.expires_at)}" if answer.state == "live" else ""
    reason = f" ({answer.reason})" if answer.reason else ""
    given = {0: "given to nobody", 1: "given once"}.get(answer.served, f"given {answer.served:,} times")
    return f"{answer.state}{until}{reason}, {whose}, {given}, scope {scope_name(answer.scope)}"
