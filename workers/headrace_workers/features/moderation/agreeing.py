"""Categories in which one detector's word is not enough."""

from collections.abc import Iterator, Sequence
from itertools import groupby

from headrace_schemas import Finding
from headrace_schemas.hazards import hazard_of
from headrace_workers.features.moderation.policy import Policy


def agreed(findings: Sequence[Finding], policy: Policy) -> list[Finding]:
    """Return the findings; `allow` becomes the action of those on whose span too few detectors agree for their rule.

    Detectors agree where spans of theirs overlap, also by way of others, and count under one category.
    """
    kept = []
    ordered = sorted(findings, key=lambda f: (hazard_of(f.category), f.start))
    for _, of_one in groupby(ordered, key=lambda f: hazard_of(f.category)):
        for group in _overlapping(of_one):
            agree = len({finding.detector for finding in group})
            kept += [
                finding if agree >= policy.rules[finding.category].detectors else _let_be(finding) for finding in group
            ]
    return kept


def _overlapping(findings: Iterator[Finding]) -> Iterator[list[Finding]]:
    """Yield the findings in the order of their beginnings, in groups that do not overlap."""
    group: list[Finding] = []
    end = 0
    for finding in findings:
        if group and finding.start >= end:
            yield group
            group, end = [], 0
        group.append(finding)
        end = max(end, finding.end)
    if group:
        yield group


def _let_be(finding: Finding) -> Finding:
    return finding.model_copy(update={"action": "allow"})
