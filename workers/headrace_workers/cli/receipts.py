"""A receipt: the end of one job, as a line of JSON for programs and as rows for people. Pure."""

import json
from collections.abc import Iterable
from dataclasses import dataclass, replace
from typing import Any, Self

from headrace_schemas import Answer, DeadLetter, Decisions, Embedding, JobCancelled, ModerationVerdict, Result, Score
from headrace_schemas.codec import decode_value, encode_value
from headrace_schemas.decision import ChoiceAnswer, DecisionAnswer, PredicateAnswer, ScoreAnswer
from headrace_schemas.errors import InvalidRecord
from headrace_schemas.event_types import type_of
from headrace_schemas.grounding import Citation
from headrace_schemas.recall import CacheTier
from headrace_workers.cli.durations import show_ms

End = Result | JobCancelled | DeadLetter

# Every line that we write begins so: by this a torn last line is known for ours.
LINE_START = b'{"line":'
COLUMNS = ("job", "answer", "source", "ended", "moderation", "criteria", "tokens", "ms")
ANSWER_WIDTH = 60
_CRITERIA = 24  # characters
# Of these 1 says that the answer is so, and 0 that it is not: a figure would look like a measurement, or a failure.
_YES_OR_NO = frozenset({"exact_match", "contains", "regex", "json_valid", "json_schema", "language", "length"})


@dataclass(frozen=True, slots=True)
class Receipt:
    """The end of a job; `line` is the line of the input file with the job, if there is one."""

    event: End
    line: int | None = None

    @classmethod
    def decode(cls, event_type: str, value: bytes, line: int | None = None) -> Self:
        """Return the receipt of an event from the ledger or Kafka. Raise InvalidRecord if it does not end a job."""
        event = decode_value(event_type, value)
        if not isinstance(event, End):
            raise InvalidRecord(f"{event_type} is no end of a job")
        return cls(event, line)

    @classmethod
    def from_json(cls, text: bytes) -> Self:
        """Return the receipt of a line that `to_json` wrote. Raise InvalidRecord, which says what is wrong with it."""
        try:
            fields = json.loads(text)
            line, event_type = fields.pop("line", None), fields.pop("type")
        except (ValueError, AttributeError, KeyError, TypeError):
            raise InvalidRecord("it is no JSON object with a `type`") from None
        if not isinstance(event_type, str) or not (line is None or isinstance(line, int)):
            raise InvalidRecord("`type` must be a string and `line` a number")
        return cls.decode(event_type, json.dumps(fields).encode(), line)

    def to_json(self) -> bytes:
        """Return one line without its line feed: the published event, with its type and the input's line."""
        head: dict[str, Any] = {} if self.line is None else {"line": self.line}
        head["type"] = type_of(self.event)
        body = encode_value(self.event)
        return json.dumps(head, separators=(",", ":")).encode()[:-1] + b"," + body[1:]

    @property
    def job_id(self) -> str | None:
        """The job, also if it was refused; None if the receipt does not name it."""
        if isinstance(self.event, DeadLetter):
            return self.event.concerns
        return self.event.job_id

    @property
    def status(self) -> str:
        """completed, blocked, dead or cancelled."""
        if isinstance(self.event, Result):
            return self.event.status
        return "dead" if isinstance(self.event, DeadLetter) else "cancelled"

    @property
    def text(self) -> str | None:
        """The visible part of the model's answer; None if there is none, or moderation withheld it."""
        answer = self.event.answer if isinstance(self.event, Result) else None
        return answer.text if answer else None

    @property
    def refused(self) -> bool:
        """Return True if this is about a record that admission refused, and so does not end a job."""
        return isinstance(self.event, DeadLetter) and self.event.job_id is None

    @property
    def answered(self) -> bool:
        """Return True if the job has a result, even one that moderation withheld."""
        return isinstance(self.event, Result)


def source(answer: Answer | Decisions) -> str:
    """Return where an answer comes from: its tier, if no model made it, and how many of its passages it cites."""
    found = []
    if answer.recall and answer.recall.tier is not CacheTier.NONE:
        found.append(answer.recall.tier.value)
    grounding = answer.grounding if isinstance(answer, Answer) else None
    if grounding is not None and grounding.citations:
        found.append(f"cites {sum(citation.cited for citation in grounding.citations)} of {len(grounding.citations)}")
        if grounding.unknown:
            found.append(f"{len(grounding.unknown)} made up")
    return ", ".join(found)


def moderation(verdict: ModerationVerdict | None) -> str:
    """Return what moderation did and why: `allow`, `redact email, person`, `block insult`."""
    return "" if verdict is None else f"{verdict.action} {', '.join(causes(verdict))}".rstrip()


def criteria(scores: tuple[Score, ...]) -> str:
    """Return a line for each criterion, by its own name where it has one.

    It says yes or no, a number, or in brackets why it could not be judged.
    """
    return "\n".join(f"{score.name or score.criterion}: {_score_text(score)}" for score in scores)


@dataclass(frozen=True, slots=True)
class Row:
    """One receipt as text: the columns of `COLUMNS`, in their order."""

    job: str
    answer: str
    source: str
    ended: str
    moderation: str
    criteria: str
    tokens: str
    ms: str

    @property
    def cells(self) -> tuple[str, ...]:
        """Return the cells in the order of the columns."""
        return (self.job, self.answer, self.source, self.ended, self.moderation, self.criteria, self.tokens, self.ms)


def row(receipt: Receipt, width: int = ANSWER_WIDTH) -> Row:
    """Return one receipt as a row. An answer is cut to `width` characters; the reason why there is none is whole."""
    event = receipt.event
    name = (receipt.job_id or "unknown")[:8]
    job = name if receipt.line is None else str(receipt.line)
    if isinstance(event, Result):
        answer = event.answer
        return Row(
            job=job,
            answer=shorten(_shown(event), width),
            source=source(made) if (made := answer or event.decisions) else "",
            ended=answer.finish_reason if answer else event.kind,
            moderation=moderation(event.moderation),
            criteria=criteria(event.judge.scores),
            tokens=str(answer.usage.completion_tokens) if answer else "",
            ms=f"{event.total_ms:,.0f}",
        )
    if isinstance(event, DeadLetter):
        place = f" ({event.place})" if event.place else ""
        cause = f"{event.failure or event.category} at {event.stage}: {event.reason}{place}"
        return Row(job, " ".join(cause.split()), "", "dead", "", "", "", "")
    reason = " ".join((event.reason or "(no reason given)").split())
    return Row(job, reason, "", "cancelled", "", "", "", "")


def row_in_full(receipt: Receipt) -> Row:
    """Return one receipt as a row that shows the answer to each question on a line of its own."""
    shown = row(receipt, 100)
    made = receipt.event.decisions if isinstance(receipt.event, Result) else None
    return shown if made is None else replace(shown, answer="\n".join(decided(made)))


def because(event: End) -> list[str]:
    """Return why another model than the first answered, as a line; none where the first did."""
    made = (event.answer or event.decisions) if isinstance(event, Result) else None
    return [made.because] if made is not None and made.because else []


def table_of(rows: Iterable[Row], skip: int = 0) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    """Return columns and cells without the first `skip`, and without the source if no job asked for one."""
    found = list(rows)
    kept = [index for index, name in enumerate(COLUMNS) if name != "source" or any(row.source for row in found)][skip:]
    return tuple(COLUMNS[index] for index in kept), [tuple(row.cells[index] for index in kept) for row in found]


def whole(rows: Iterable[Row]) -> tuple[str, ...]:
    """Return the columns that are never broken. Criteria with very long names are, since the answer needs room, too."""
    widest = max((len(line) for row in rows for line in row.criteria.splitlines()), default=0)
    return ("criteria",) if widest <= _CRITERIA else ()


def _shown(event: Result) -> str:
    """Return the answer, or why it is not shown."""
    if event.status == "blocked":
        return "(the prompt was blocked)" if event.refusal else "(withheld)"
    if (made := event.embedding or event.decisions) is not None:
        return (
            f"(a vector of {made.dimensions} dimensions)" if isinstance(made, Embedding) else "; ".join(decided(made))
        )
    if event.kind == "moderation":
        return f"({moderation(event.moderation)})"
    if event.answer is None:
        return "(none asked for)"
    if event.answer.finish_reason == "abstained" and event.answer.grounding:
        return f"(nothing relevant in {event.answer.grounding.knowledge})"
    calls = [f"{tool_call.name}({tool_call.arguments})" for tool_call in event.answer.tool_calls]
    return "\n".join(filter(None, [event.answer.text, *calls])) or "(empty)"


def decided(decisions: Decisions) -> list[str]:
    """Return the answers to questions, a line each, by their names or numbers."""
    return [f"{answer.name or number}: {_decided(answer)}" for number, answer in enumerate(decisions.answers, 1)]


def _decided(answer: DecisionAnswer) -> str:
    match answer:
        case PredicateAnswer():
            return f"{'yes' if answer.probability >= 0.5 else 'no'} (yes {answer.probability:.2f})"
        case ChoiceAnswer():
            choice = str(answer.choice).lower() if isinstance(answer.choice, bool) else answer.choice
            return f"{choice} ({answer.confidence:.2f})"
        case ScoreAnswer():
            best = max(answer.probabilities, key=lambda level: level.probability)
            return f"{answer.score:.2f} (most likely {best.label}, {answer.confidence:.2f})"
    return "(not answered)" if answer.reason is None else f"(not answered: {answer.reason})"


def passages(answer: Answer) -> list[str]:
    """Return the passages that an answer rests on, a line each, or why there are none."""
    grounding = answer.grounding
    if grounding is None:
        return []
    if grounding.reason:
        return [f"no passages of {grounding.knowledge}: {grounding.reason}"]
    lines = [
        f"[{citation.number}] {_place(citation)} (relevance "
        f"{citation.relevance:.2f}{'' if citation.cited else ', not cited'}"
        f"{', looks as if it gave orders' if citation.suspicious else ''})"
        for citation in grounding.citations
    ]
    if grounding.unknown:
        lines.append(f"cited, and no passage: {', '.join(f'[{number}]' for number in grounding.unknown)}")
    return lines


def _place(citation: Citation) -> str:
    """Return document and section on one line."""
    return " ".join(": ".join(filter(None, [citation.document, citation.section])).split())


def causes(verdict: ModerationVerdict) -> list[str]:
    """Return the categories, sorted, for which moderation did more than allow."""
    if verdict.action == "allow":
        return []
    return sorted({finding.category for finding in verdict.findings if finding.action == verdict.action})


def verdicts(scores: tuple[Score, ...]) -> list[tuple[str, bool]]:
    """Return the criteria that say yes or no, by name, and whether each holds."""
    return [(score.name or score.criterion, score.value == 1.0) for score in scores if _is_verdict(score)]


def checks(scores: tuple[Score, ...]) -> str:
    """Return `passed`, or the checks that failed; then each measured value, and each criterion that was not judged."""
    found = verdicts(scores)
    failed = [name for name, holds in found if not holds]
    words = [f"failed {', '.join(failed)}"] if failed else ["passed"] if found else []
    words += [f"{score.name or score.criterion} {_score_text(score)}" for score in scores if not _is_verdict(score)]
    return ", ".join(words)


def _is_verdict(score: Score) -> bool:
    return score.criterion in _YES_OR_NO and score.value in (0.0, 1.0)


def _score_text(score: Score) -> str:
    if score.value is None:
        return f"({'not judged' if score.not_judged is None else score.not_judged.replace('_', ' ')})"
    if _is_verdict(score):
        return "yes" if score.value else "no"
    return f"{score.value:.2f}"


def shorten(text: str, width: int) -> str:
    """Return the text on one line, cut to `width` characters."""
    line = " ".join(text[: width * 4].split())
    return line if len(line) <= width else f"{line[: width - 1].rstrip()}…"


def one_line(receipt: Receipt, width: int = 100) -> str:
    """Return a receipt on one line of a terminal: id, end, cost, and the answer cut to `width` characters. The reason
    why there is no answer is whole, since it ends with what to do.
    """
    shown = row(receipt, width)
    cost = f"{shown.tokens} tok  " if shown.tokens else ""
    time = f"{show_ms(receipt.event.total_ms)}  " if isinstance(receipt.event, Result) else ""
    return f"{receipt.job_id or 'unknown':<36}  {receipt.status:<9}  {cost}{time}{shown.answer}"
