"""The question to a person who reviews a text."""

from collections import Counter

from headrace_schemas import ModerationVerdict


def asks_person(verdict: ModerationVerdict) -> str:
    """Return what a person has to decide about, without the text."""
    found = Counter(finding.category for finding in verdict.findings if finding.action == "review")
    scores = {finding.category: finding.score for finding in sorted(verdict.findings, key=lambda f: f.score)}
    listed = ", ".join(f"{name} ({number} x, {scores[name]:.2f} at most)" for name, number in sorted(found.items()))
    return f"the moderation policy {verdict.policy} wants a person to review: {listed}"
