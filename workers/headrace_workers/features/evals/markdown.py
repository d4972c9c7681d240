"""The report as Markdown: for a pull request, or a terminal."""

from collections.abc import Sequence

from headrace_workers.features.evals import report_tables as tables
from headrace_workers.features.evals.analysis import Analysis
from headrace_workers.features.evals.gate import Passed
from headrace_workers.features.evals.plan import Plan


def markdown(plan: Plan, analysis: Analysis, gate: Passed | None) -> str:
    """Return the whole report without the items."""
    parts = [f"# {_text(plan.run.name)}", _text(tables.about(plan))]
    if analysis.missing:
        parts.append(
            f"**{analysis.missing:,} of {plan.jobs:,} jobs have not ended yet: this report covers the others.**"
        )
    if gate is not None:
        parts.append(f"**{_text(gate.words)}**")
    parts.append("\n".join(f"- {_text(line)}" for line in tables.verdict_lines(plan, analysis)))
    parts += ["## Scores", _table(tables.SCORES, tables.score_rows(analysis))]
    if analysis.compared:
        parts += [
            f"## Against {plan.run.variants[0].name}",
            _table(tables.DIFFERENCES, tables.difference_rows(analysis)),
        ]
    if analysis.people:
        parts += ["## What people say", _table(tables.PEOPLE, tables.people_rows(plan, analysis.people))]
    parts += ["## What it took", _table(tables.COSTS, tables.cost_rows(analysis))]
    if missing := tables.reason_rows(analysis):
        parts += ["## What is missing", _table(tables.REASONS, missing)]
    return "\n\n".join(parts) + "\n"


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join("| " + " | ".join(_text(cell) for cell in line) + " |" for line in lines)


def _text(text: str) -> str:
    """Return the text in one line, escaped: a dataset or a model must not open a tag, cell or link."""
    plain = " ".join(text.split())
    for sign in ("\\", "|", "<", "[", "`", "*", "_"):
        plain = plain.replace(sign, f"\\{sign}")
    return plain
