"""Reason for a moderated text to be reviewed, as the reviewer reads it."""

from collections import Counter

from headrace_schemas import ModerationVerdict


def review_reason(verdict: ModerationVerdict) -> str:
    """Return which findings of a verdict ask for a review, without the text."""
    found = Counter(finding.category for finding in verdict.findings if finding.action == "review")
    scores = {finding.category: finding.score for finding in sorted(verdict.findings, key=lambda f: f.score)}
    listed = ", ".join(f"{name} ({number} x, {scores[name]:.2f} at most)" for name, number in sorted(found.items()))
    return f"the moderation policy {verdict.policy} wants a person to review: {listed}"
