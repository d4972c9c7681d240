"""A job as the playground shows it: its waterfall, the answer with marked spans, and the receipt. Pure."""

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from headrace_schemas import Answer, DeadLetter, Decisions, ModerationVerdict, Result, Score
from headrace_schemas.events import Cost
from headrace_schemas.recall import CacheTier, Recall
from headrace_workers.cli import receipts
from headrace_workers.core.ledger.job_status import Standing, StepRow
from headrace_workers.features.moderation.decision import Span, merge
from headrace_workers.features.moderation.leak import CANARY
from headrace_workers.features.spend.prices import money

SCALE: Final = 1_000  # the width of a waterfall
_LEAST: Final = 4  # the width of a mark that would be too thin to see
_MOST_MARKS: Final = 300  # of one text
_CITED: Final = re.compile(r"\[(\d{1,4})\]")
STAGES: Final[Mapping[str, str]] = {
    "screen": "Check the question",
    "recall": "Look for answers and passages",
    "verify_hit": "Verify an earlier answer",
    "generate": "Write the answer",
    "decide": "Decide the questions",
    "moderate": "Moderate the answer",
    "ground": "Check it against its sources",
    "rubric": "Ask the judge",
    "judge": "Judge the answer",
    "embed": "Make the vector",
    "deliver": "Deliver to webhooks",
    "audit": "Audit answers of the cache",
}
_STATES: Final[Mapping[str, str]] = {
    "ready": "waits for a worker",
    "waiting": "waits to be tried again",
    "parked": "waits for another job",
    "held": "is held",
    "leased": "runs",
    "done": "done",
    "dead": "failed",
    "cancelled": "cancelled",
}


@dataclass(frozen=True, slots=True)
class Bar:
    """A step in the waterfall. Places and widths are in `SCALE`, times in ms; `ran` is absent before it runs."""

    stage: str
    words: str
    state: str
    said: str
    attempts: int
    reason: str | None
    at: int
    waiting: int
    running: int
    waited: float
    ran: float | None


def waterfall(standing: Standing, now: int) -> tuple[Sequence[Bar], float]:
    """Return the steps so far, and the time from acceptance to the end or now (ms)."""
    row = standing.row
    if row is None:
        return (), max(0, now - (standing.accepted_at or now))
    end = max(row.ended_at or now, *(step.ended_at or step.started_at or step.ready_at for step in standing.steps), 1)
    total = max(1, end - row.accepted_at)
    return [_bar(step, row.accepted_at, end, total) for step in standing.steps], total


def _bar(step: StepRow, accepted: int, end: int, total: int) -> Bar:
    running = step.started_at is not None
    begun = step.started_at if step.started_at is not None else step.ended_at or end
    until = step.ended_at or end

    def place(ms: int) -> int:
        return min(SCALE, max(0, round((ms - accepted) / total * SCALE)))

    # A step that follows in the same group began before it was known to be ready.
    at = min(place(step.ready_at), place(begun), SCALE - _LEAST)
    middle = max(at, place(begun))
    return Bar(
        stage=step.stage,
        words=STAGES.get(step.stage, step.stage),
        state=step.state,
        said=_STATES.get(step.state, step.state),
        attempts=step.attempts,
        reason=step.reason,
        at=at,
        waiting=middle - at,
        running=max(_LEAST, place(until) - middle) if running else 0,
        waited=max(0, begun - step.ready_at),
        ran=max(0, until - begun) if running else None,
    )


@dataclass(frozen=True, slots=True)
class Mark:
    """Characters `start` to `end` of a text that stand out: why, and of which kind (`hidden`, `found`, `doubt`)."""

    start: int
    end: int
    kind: str
    why: str


@dataclass(frozen=True, slots=True)
class Piece:
    """A part of a text. `kind` and `why` are empty where nothing is said of it; `passage` is the number it cites."""

    text: str
    kind: str = ""
    why: str = ""
    passage: int | None = None


def pieces(text: str, marks: Iterable[Mark], passages: frozenset[int] = frozenset()) -> Sequence[Piece]:
    """Return a text in pieces, in order; together they are the text. Where marks overlap, the first counts."""
    cited = (
        Mark(found.start(), found.end(), "cited", "") for found in _CITED.finditer(text) if int(found[1]) in passages
    )
    made: list[Piece] = []
    done = 0
    for mark in sorted([*_links(cited), *marks], key=lambda mark: mark.start)[:_MOST_MARKS]:
        start, end = max(mark.start, done), min(mark.end, len(text))
        if start >= end:
            continue
        if start > done:
            made.append(Piece(text[done:start]))
        made += _inside(text[start:end], mark, passages)
        done = end
    if done < len(text) or not made:
        made.append(Piece(text[done:]))
    return made


def _links(cited: Iterator[Mark]) -> list[Mark]:
    return [mark for mark, _ in zip(cited, range(_MOST_MARKS), strict=False)]


def _inside(text: str, mark: Mark, passages: frozenset[int]) -> Iterator[Piece]:
    """Yield the pieces of a marked part, which may cite passages."""
    kind = "" if mark.kind == "cited" else mark.kind
    done = 0
    for match in _CITED.finditer(text):
        if int(match[1]) in passages:
            if match.start() > done:
                yield Piece(text[done : match.start()], kind, mark.why)
            yield Piece(match[0], kind, mark.why, int(match[1]))
            done = match.end()
    if done < len(text):
        yield Piece(text[done:], kind, mark.why)


def moderated(text: str, verdict: ModerationVerdict | None) -> list[Mark]:
    """Return what moderation found, where it stands in the text that is shown. Offsets of findings are those of the
    text before redaction. Where a redaction does not stand at its place, nothing is marked.
    """
    if verdict is None:
        return []
    hides = [f for f in verdict.findings if verdict.flagged and (f.action == "redact" or f.detector == CANARY)]
    hidden = merge(Span(f.start, f.end, f.category) for f in hides)
    marks, shift, shifts = [], 0, []
    for span in hidden:
        word = f"[{span.category.upper()}]"
        start = span.start + shift
        if text[start : start + len(word)] != word:
            return []
        marks.append(Mark(start, start + len(word), "hidden", f"redacted: {span.category}"))
        shift += len(word) - (span.end - span.start)
        shifts.append((span.end, shift))
    for finding in verdict.findings:
        if finding in hides or any(s.start < finding.end and finding.start < s.end for s in hidden):
            continue
        moved = next((by for end, by in reversed(shifts) if end <= finding.start), 0)
        why = f"{finding.category}, found by {finding.detector}: {finding.action}"
        marks.append(Mark(finding.start + moved, finding.end + moved, "found", why))
    return marks


def doubted(scores: Iterable[Score]) -> list[Mark]:
    """Return the sentences that no source supports."""
    return [
        Mark(unsupported.start, unsupported.stop, "doubt", f"not supported: {unsupported.reason}")
        for score in scores
        for unsupported in score.unsupported or ()
    ]


def text_of(event: Result) -> Sequence[Piece] | None:
    """Return the answer in pieces, or the answers to questions; None where there is none to show."""
    if event.decisions is not None:
        return pieces("\n".join(receipts.decided(event.decisions)), ())
    answer = event.answer
    if answer is None or answer.text is None:
        return None
    numbers = (
        frozenset(citation.number for citation in answer.grounding.citations) if answer.grounding else frozenset[int]()
    )
    return pieces(answer.text, [*moderated(answer.text, event.moderation), *doubted(event.judge.scores)], numbers)


def missing(receipt: receipts.Receipt) -> str:
    """Return why there is no answer, in words."""
    event = receipt.event
    if isinstance(event, DeadLetter):
        return event.reason
    if not isinstance(event, Result):
        return event.reason or "The job was cancelled before it was answered."
    if event.refusal is not None:
        return "Moderation blocked the question. No model was asked."
    if event.status == "blocked":
        return "Moderation withholds this answer."
    return receipts.row(receipt).answer


def cost_words(cost: Cost | None) -> str:
    """Return what a job cost: `0.0012 USD`, `nothing`, or that no price is known."""
    if cost is None:
        return "nothing"
    if cost.currency is None:
        return "no price is set" if cost.unknown else "nothing"
    known = f"{money(cost.amount)} {cost.currency}"
    return f"{known}, and calls of unknown price" if cost.unknown else known


def facts(event: Result) -> Sequence[tuple[str, str]]:
    """Return the receipt's figures, each with its name."""
    found: list[tuple[str, str]] = []
    answer = event.answer
    if answer is not None:
        found += _of_answer(answer)
    elif event.decisions is not None:
        found += [*_made_by(event.decisions), _cached(event.decisions.recall)]
    found += [("another model answered", line) for line in receipts.because(event)]
    found.append(("cost", cost_words(event.cost)))
    if event.application is not None:
        found.append(("application", f"{event.application.name}, version {event.application.version}"))
    if event.seen_by:
        found.append(("texts were sent to", ", ".join(event.seen_by)))
    return found


def _made_by(made: Answer | Decisions) -> tuple[tuple[str, str], ...]:
    """Return the model, the number format of its weights, and the tokens."""
    model = made.model if made.provider is None else f"{made.model} at {made.provider}"
    tokens = f"{made.usage.prompt_tokens:,} read, {made.usage.completion_tokens:,} written"
    return ("model", model), ("weights", made.quantization), ("tokens", tokens)


def _of_answer(answer: Answer) -> Iterator[tuple[str, str]]:
    usage = answer.usage
    model, weights, tokens = _made_by(answer)
    yield from (model, weights)
    yield (
        "ended",
        {"stop": "at its end", "length": "at the longest answer allowed"}.get(
            answer.finish_reason, answer.finish_reason.replace("_", " ")
        ),
    )
    yield tokens
    if usage.cached_tokens:
        yield "cached by the provider", f"{usage.cached_tokens:,} tokens"
    yield _cached(answer.recall)


def _cached(recall: Recall | None) -> tuple[str, str]:
    """Return what the cache did for the answer."""
    if recall is None:
        return "cache", "not asked"
    if recall.tier is CacheTier.NONE:
        return "cache", f"no hit: {recall.refused}" if recall.refused else "no hit"
    saved = f", saved {recall.saved_tokens:,} tokens" if recall.saved_tokens else ""
    return "cache", f"{recall.tier.value}{saved}"


def judgements(scores: Iterable[Score]) -> Sequence[tuple[str, str, str]]:
    """Return a line for each criterion: its name, its value, and who says so or why there is none."""
    return [
        (
            score.name or score.criterion,
            receipts.criteria((score,)).rpartition(": ")[2],
            score.reason or " · ".join(filter(None, [score.model, score.note])),
        )
        for score in scores
    ]
