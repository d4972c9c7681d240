"""Training examples in the ledger: answers that people approved or corrected, and accepted answers of one model."""

import operator
import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any, Final, Literal, NamedTuple, Self

from pydantic_core import from_json
from sqlalchemy import Connection, Row, select

from headrace_schemas import Answer, GenerationJob, Result
from headrace_schemas.codec import decode_job, decode_value
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.core.tables import JOBS
from headrace_workers.features.evals.store import items_after
from headrace_workers.features.reviews.hooks import current_rules
from headrace_workers.features.reviews.store import decisions_after

AT_ONCE: Final = 500  # rows of a query
_GOOD: Final = 0.5  # the least mean of people's labels by a criterion of an approved answer

Source = Literal["corrected", "approved", "answers"]


class Example(NamedTuple):
    """A conversation with the answer to learn, and where it comes from. `messages` are JSON, as jobs carry them."""

    messages: tuple[Mapping[str, Any], ...]
    answer: str
    source: Source
    job_id: str
    model: str | None
    application: str | None  # with its version
    people: tuple[str, ...] = ()  # who decided


class NoExample(NamedTuple):
    """An answer of the selection that no model may learn from, with the reason."""

    job_id: str
    reason: str


_OPERATORS: Final[Mapping[str, Callable[[float, float], bool]]] = {
    ">=": operator.ge,
    "<=": operator.le,
    ">": operator.gt,
    "<": operator.lt,
    "==": operator.eq,
}
_SCORE: Final = re.compile(r"\s*(?P<name>\S+)\s*(?P<sign>>=|<=|==|>|<)\s*(?P<value>\d+(?:\.\d+)?|\.\d+)\s*")


class ScoreFilter(NamedTuple):
    """A condition on the score by one criterion."""

    criterion: str
    sign: str
    value: float

    @classmethod
    def parse(cls, text: str) -> Self:
        """Return the condition that a text such as `right >= 1` names. Raise ConfigurationError."""
        match = _SCORE.fullmatch(text)
        if match is None:
            raise ConfigurationError(
                f"--score {text!r} is no condition: write a criterion, one of {', '.join(_OPERATORS)}, and a number "
                'from 0 to 1, such as "right >= 0.8"'
            )
        return cls(match["name"], match["sign"], float(match["value"]))

    def holds(self, scores: Mapping[str, float]) -> bool:
        """Return True if the criterion has a score, and the condition holds for it."""
        score = scores.get(self.criterion)
        return score is not None and _OPERATORS[self.sign](score, self.value)


@dataclass(frozen=True, slots=True)
class Selection:
    """The examples that are wanted: of a tenant's application (a name, or NAME@VERSION; None for all jobs).

    With a `teacher` they are the accepted answers of that model; else answers that people approved or corrected.
    """

    tenant: str
    application: str | None = None
    approved: bool = True
    corrected: bool = True
    scores: tuple[ScoreFilter, ...] = ()
    teacher: str | None = None

    def is_of(self, application: str | None) -> bool:
        """Return True for a job of this version of an application."""
        if self.application is None:
            return True
        return application is not None and self.application in (application, application.partition("@")[0])


def may_train(connection: Connection, tenant: str) -> bool:
    return current_rules(connection).may_train(tenant)


def ended_after(
    connection: Connection, tenant: str, after: tuple[int, str], kind: str = "generation"
) -> Sequence[Row[Any]]:
    """Return the tenant's next ended jobs of a kind after a time (ms) and id, the oldest first."""
    at, job_id = JOBS.c.ended_at, JOBS.c.id
    columns = [
        JOBS.c[name] for name in ("id", "kind", "payload", "application", "terminal_type", "terminal", "ended_at")
    ]
    query = (
        select(*columns)
        .where(at.is_not(None), at >= after[0], (at > after[0]) | (job_id > after[1]))
        .where(JOBS.c.tenant == tenant, JOBS.c.kind == kind, JOBS.c.state == "done")
    )
    return connection.execute(query.order_by(at, job_id).limit(AT_ONCE)).all()


class Examples(LedgerStore):
    """The training examples of a ledger. Unavailable when it does not answer."""

    may_train = reads(may_train)
    _next_decisions = reads(decisions_after)
    _next_ended = reads(ended_after)
    _next_eval_items = reads(items_after)

    def of(self, wanted: Selection) -> Iterator[Example | NoExample]:
        """Yield each wanted example once, in a stable order."""
        return self._answers(wanted, wanted.teacher) if wanted.teacher is not None else self._reviewed(wanted)

    def eval_texts(self, tenant: str) -> Iterator[tuple[str, str]]:
        """Yield each text of the rows of the tenant's evals, with the id of its eval."""
        after = (-1, -1)
        while rows := self._next_eval_items(tenant, after, AT_ONCE):
            for row in rows:
                yield from ((text, row.eval_id) for text in _texts(from_json(row.item)))
            after = (rows[-1].run, rows[-1].number)

    def _reviewed(self, wanted: Selection) -> Iterator[Example | NoExample]:
        after = ""
        while rows := self._next_decisions(wanted.tenant, after, AT_ONCE):
            for _, of_item in groupby(rows, key=lambda row: row.item_id):
                newest = {row.who: row for row in of_item}  # the newest revision of a person counts
                decided = [row for row in newest.values() if row.action != "undo"]
                if decided and (people := _of_people(decided, wanted)) is not None:
                    yield people
            after = rows[-1].item_id

    def _answers(self, wanted: Selection, teacher: str) -> Iterator[Example | NoExample]:
        after = (0, "")
        while rows := self._next_ended(wanted.tenant, after):
            for row in rows:
                if wanted.is_of(row.application) and (found := _of_answer(row, wanted, teacher)) is not None:
                    yield found
            after = (rows[-1].ended_at, rows[-1].id)


def _texts(item: object) -> Iterator[str]:
    """Yield the texts in a JSON value."""
    if isinstance(item, str):
        yield item
    elif isinstance(item, dict | list):
        for value in item.values() if isinstance(item, dict) else item:
            yield from _texts(value)


def _of_people(rows: Sequence[Row[Any]], wanted: Selection) -> Example | NoExample | None:
    """Return the example that people's decisions about one item make; None for one that is not wanted."""
    kept = next((row.example for row in rows if row.example is not None), None)
    if kept is None:
        return None
    example = from_json(kept)
    if not wanted.is_of(example.get("application")):
        return None
    corrected = next((text for row in rows if (text := from_json(row.decision).get("corrected"))), None)
    source: Source = "approved" if corrected is None else "corrected"
    if source == "corrected":
        if not wanted.corrected:
            return None
    elif not wanted.approved or not _is_approved(rows, wanted.scores):
        return None
    job_id = str(rows[0].job_id)
    if reason := _unfit(example["messages"], corrected or example["answer"]):
        return NoExample(job_id, reason)
    return Example(
        messages=tuple(example["messages"]),
        answer=corrected or example["answer"],
        source=source,
        job_id=job_id,
        model=example.get("model"),
        application=example.get("application"),
        people=tuple(sorted(row.who for row in rows)),
    )


def _is_approved(rows: Sequence[Row[Any]], scores: Iterable[ScoreFilter]) -> bool:
    """Return True if nobody withheld the answer, and people's mean labels by each criterion are good, and fit."""
    if any(row.action == "withhold" for row in rows):
        return False
    labels: defaultdict[str, list[float]] = defaultdict(list)
    for row in rows:
        for label in from_json(row.decision).get("labels", ()):
            if label.get("category") is not None and label["value"] > _GOOD:
                return False  # it is what the category names
            if label.get("criterion") is not None:
                labels[label["criterion"]].append(label["value"])
    means = {name: sum(values) / len(values) for name, values in labels.items()}
    return all(mean > _GOOD for mean in means.values()) and all(score.holds(means) for score in scores)


def _of_answer(row: Row[Any], wanted: Selection, teacher: str) -> Example | NoExample | None:
    """Return the example that an ended job makes; None for one that is not wanted."""
    job = decode_job(row.kind, row.payload)
    end = None if row.terminal is None else decode_value(row.terminal_type, row.terminal)
    if not isinstance(job, GenerationJob) or not isinstance(end, Result) or end.answer is None:
        return None
    if end.answer.model != teacher or "evaluation" in job.metadata:
        return None
    scores = {score.name or score.criterion: score.value for score in end.judge.scores if score.value is not None}
    if not all(score.holds(scores) for score in wanted.scores):
        return None
    messages = tuple(
        {"content": message.content, **message.model_dump(mode="json", exclude_defaults=True)}
        for message in job.conversation
    )
    text = end.answer.text or ""
    if reason := _unfit_answer(job, end, end.answer) or _unfit(messages, text):
        return NoExample(row.id, reason)
    return Example(messages, text, "answers", row.id, end.answer.model, row.application)


def _unfit_answer(job: GenerationJob, end: Result, answer: Answer) -> str | None:
    """Return why no model is trained on the answer of an ended job; None if one may be."""
    if end.moderation is not None and end.moderation.action != "allow":
        return f"moderation: {end.moderation.action}"
    if answer.finish_reason != "stop":
        return f"its answer ended by {answer.finish_reason}"
    if answer.tool_calls:
        return "its answer calls tools"
    return None if job.knowledge is None else "its answer rests on passages, which the job does not hold"


def _unfit(messages: Sequence[Mapping[str, Any]], answer: str) -> str | None:
    """Return why no model is trained on a conversation; None if one may be."""
    if not answer.strip():
        return "its answer is empty"
    if any(message.get("tool_calls") or message.get("role") == "tool" for message in messages):
        return "its conversation calls tools"
    return None
