"""The decision about a text: from the findings of detectors to a verdict, and to a text without spans."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from headrace_schemas import Finding, ModerationVerdict
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.hazards import hazard_of
from headrace_schemas.limits import MAX_TEXT
from headrace_schemas.moderation import Action
from headrace_workers.features.moderation.detector import MAX_DETECTIONS, MAX_FINDINGS, Detection, Moderation, Source
from headrace_workers.features.moderation.leak import CANARY
from headrace_workers.features.moderation.policy import ACTIONS, Policy

_STRICTNESS = {action: i for i, action in enumerate(ACTIONS)}


class Judge:
    """Decides by a policy about what these detectors find."""

    def __init__(self, detectors: Sequence[Source], policy: Policy) -> None:
        """Check the policy against the detectors.

        Raise ConfigurationError where it has no rule for what a detector reports, or asks for more detectors of a
        category than look for it: such a rule would never do anything.
        """
        self._policy = policy
        _check(detectors, policy)
        self._together = any(rule.detectors > 1 for rule in policy.rules.values())
        covered = sorted({hazard_of(category) for detector in detectors for category in detector.categories})
        self._detectors = {detector.name: detector.version for detector in detectors}
        # Most texts hold nothing, and all of those have the same verdict.
        self._clean = self._verdict("allow", (), dict.fromkeys(covered, 0.0))

    def decide(self, text: str, found: Sequence[tuple[Source, Detection]]) -> Moderation:
        """Return the part of the text that may be shown; block it with too many findings, or if redaction makes it too
        long.
        """
        if not found:
            return Moderation(text, self._clean)
        findings = []
        scores = dict(self._clean.category_scores)
        for detector, detection in found:
            rule = self._policy.rules[detection.category]
            hazard = hazard_of(detection.category)
            scores[hazard] = max(scores[hazard], detection.score)
            if detection.score >= rule.min_score:
                let_be = rule.allowed and rule.allows(text[detection.start : detection.end])
                findings.append(_finding(detector, detection, "allow" if let_be else rule.action))
        if self._together:
            findings = _agreed(findings, self._policy)
        findings = [_hidden(finding) for finding in findings]
        action: Action = max((f.action for f in findings), key=_STRICTNESS.__getitem__, default="allow")
        # Something else in it that is to be withheld would be so in another answer, too, for all that is known.
        blocks = [self._policy.rules[f.category] for f in findings if f.action == "block"]
        again = bool(blocks) and all(rule.again for rule in blocks)
        if _too_many(findings, found, self._policy):
            action = "block"
        # When not all can be listed, the strictest are; then in the order of the text.
        findings.sort(key=lambda f: -_STRICTNESS[f.action])
        listed = tuple(sorted(findings[:MAX_FINDINGS], key=lambda f: (f.start, f.end)))
        shown = text if action == "allow" else _redacted(text, findings, action)
        return Moderation(shown, self._verdict("block" if shown is None else action, listed, scores), again)

    def _verdict(self, action: Action, listed: tuple[Finding, ...], scores: dict[str, float]) -> ModerationVerdict:
        objected = {hazard_of(finding.category) for finding in listed if finding.action != "allow"}
        return ModerationVerdict(
            action=action,
            flagged=action != "allow",
            categories={hazard: hazard in objected for hazard in scores},
            category_scores=scores,
            findings=listed,
            detectors=self._detectors,
            policy=self._policy.version,
        )


def _check(detectors: Sequence[Source], policy: Policy) -> None:
    for detector in detectors:
        if missing := detector.categories - policy.rules.keys():
            names = ", ".join(sorted(missing))
            raise ConfigurationError(f"the moderation policy has no rule for {names}, which {detector.name} reports")
    for name, rule in policy.rules.items():
        looks = [d.name for d in detectors if hazard_of(name) in {hazard_of(category) for category in d.categories}]
        if looks and len(looks) < rule.detectors:
            raise ConfigurationError(
                f"the moderation policy wants {rule.detectors} detectors to agree on {name}, and there is only "
                f"{', '.join(looks)} that looks for {hazard_of(name)}"
            )


def _hidden(finding: Finding) -> Finding:
    """Return the finding. An allowed canary becomes redacted, since a reader of it could have a model leave it out."""
    if finding.detector == CANARY and finding.action == "allow":
        return finding.model_copy(update={"action": "redact"})
    return finding


def _redacted(text: str, findings: Sequence[Finding], action: Action) -> str | None:
    if action == "block":
        return None
    hidden = (f for f in findings if f.action == "redact" or f.detector == CANARY)
    redacted = redact(text, (Span(f.start, f.end, f.category) for f in hidden))
    return redacted if len(redacted) <= MAX_TEXT else None


def _too_many(findings: Sequence[Finding], found: Sequence[tuple[Source, Detection]], policy: Policy) -> bool:
    """Return True if a finding that matters could not be listed, or a detector stopped before the end of the text."""
    if len(found) <= MAX_FINDINGS:
        return False
    if sum(finding.action != "allow" for finding in findings) > MAX_FINDINGS:
        return True
    counts = Counter(detection.category for _, detection in found)
    return any(n >= MAX_DETECTIONS and policy.rules[category].action != "allow" for category, n in counts.items())


def _finding(detector: Source, detection: Detection, action: Action) -> Finding:
    return Finding(
        category=detection.category,
        detector=detector.name,
        score=detection.score,
        start=detection.start,
        end=detection.end,
        action=action,
    )


def _agreed(findings: Sequence[Finding], policy: Policy) -> list[Finding]:
    """Return the findings; `allow` becomes the action of those on whose span too few detectors agree."""
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


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `start` to `end` (exclusive) of a text, and the category that names what stands there."""

    start: int
    end: int
    category: str


def redact(text: str, spans: Iterable[Span]) -> str:
    """Return the text with each span (in characters) replaced by its category in brackets: `[EMAIL]`. Overlapping spans
    become one, named after the longest.
    """
    parts: list[str] = []
    done = 0
    for span in merge(spans):
        parts += (text[done : span.start], f"[{span.category.upper()}]")
        done = span.end
    parts.append(text[done:])
    return "".join(parts)


def merge(spans: Iterable[Span]) -> list[Span]:
    """Return the spans in order, with overlapping ones joined. Spans that only touch stay apart."""
    merged: list[Span] = []
    longest = 0  # length of the span that named the last group
    for span in sorted((s for s in spans if s.start < s.end), key=lambda s: s.start):
        length = span.end - span.start
        if merged and span.start < merged[-1].end:
            last = merged[-1]
            name = span.category if length > longest else last.category
            longest = max(longest, length)
            merged[-1] = Span(last.start, max(last.end, span.end), name)
        else:
            merged.append(span)
            longest = length
    return merged
