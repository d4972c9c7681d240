"""From audits and how scopes stand to rows and to JSON. Pure."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from headrace_workers.cli.durations import rfc3339, show_time
from headrace_workers.cli.tables import shorten

if TYPE_CHECKING:
    from headrace_workers.ledger.standings import ScopeStanding

BOUND_COLUMNS = ("scope", "tenant", "bound", "served", "audits", "unknown", "wrong", "at most", "if unknown are")
BOUND_RIGHT = BOUND_COLUMNS[3:]
AUDIT_COLUMNS = ("audit", "tenant", "similarity", "asked", "served", "afresh")
_SCOPE_SHOWN = 8
_WIDTH = 40


def bound_row(found: "ScopeStanding") -> tuple[str, ...]:
    """How a scope stands, as the cells of `BOUND_COLUMNS`: `at most` is about those with a verdict, and the last
    column takes the unknown for wrong.
    """
    figures = found.figures
    wrong = f"{figures['wrong']:,}" if figures.get("wrong") else "0"
    if figures.get("estimate"):
        wrong += f" ({figures['estimate']:.1%})"
    return (
        found.scope[:_SCOPE_SHOWN], found.tenant, found.state,
        *(f"{figures.get(name, 0):,}" for name in ("served", "audits", "unknown")), wrong,
        _percent(figures.get("upper", 1.0)), _percent(figures.get("upper_if_unknown_wrong", 1.0)),
    )  # fmt: skip


def bound_dict(found: "ScopeStanding") -> dict[str, Any]:
    """The same, for `--json`; shares are in [0, 1], and those of the newest window stand in `recent`."""
    return {
        "scope": found.scope, "tenant": found.tenant, "state": found.state, "sentence": found.sentence,
        **found.figures, "least_similarity": found.least, "since": rfc3339(found.since or None),
        "state_since": rfc3339(found.changed_at),
    }  # fmt: skip


def off_lines(found: Sequence["ScopeStanding"]) -> list[str]:
    """What there is to say of scopes that are off, a line each."""
    return [
        f"scope {each.scope[:_SCOPE_SHOWN]} of the tenant {each.tenant}, since {show_time(each.changed_at)}: "
        f"{each.sentence} `headrace cache reopen {each.scope[:_SCOPE_SHOWN]}` turns it on again"
        for each in found
        if each.state == "off"
    ]


def audit_dict(row: Any) -> dict[str, Any]:
    """An audit, for `--json`; texts that are forgotten are null."""
    return {
        "audit": row.id, "tenant": row.tenant, "scope": row.scope, "job_id": row.job_id, "entry_id": row.entry_id,
        "similarity": row.similarity, "served_at": rfc3339(row.served_at), "question": row.question,
        "served": row.served, "fresh": row.fresh, "label": row.label, "reason": row.reason,
    }  # fmt: skip


def audit_row(row: Any) -> tuple[str, ...]:
    """The same as the cells of `AUDIT_COLUMNS`."""
    texts = (shorten(text, _WIDTH) if text else "–" for text in (row.question, row.served, row.fresh))
    return (row.id, row.tenant, f"{row.similarity:.4f}", *texts)


def audit_facts(row: Any) -> list[tuple[str, str]]:
    """What a person must know to label it, as lines of name and value."""
    return [
        ("question", row.question or "(forgotten)"), ("similarity", f"{row.similarity:.4f}"), ("tenant", row.tenant),
        ("why you are asked", row.reason or ""),
    ]  # fmt: skip


def _percent(share: float) -> str:
    return f"{share:.2%}"
