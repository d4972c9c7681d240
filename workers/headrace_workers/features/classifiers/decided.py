"""Labelled rows from the decisions in the ledger: what larger models answered, for a classifier to learn."""

from collections.abc import Iterator

from headrace_schemas import DecisionJob, Result
from headrace_schemas.codec import decode_job, decode_value
from headrace_schemas.decision import Choice, ChoiceAnswer, Predicate, PredicateAnswer, ScaleQuestion, ScoreAnswer
from headrace_schemas.errors import ConfigurationError
from headrace_workers.core.sql.store import LedgerStore, reads
from headrace_workers.features.classifiers.training import Row
from headrace_workers.features.datasets.examples import ended_after, may_train


class DecidedRows(LedgerStore):
    """The decisions of a ledger as labelled rows. Unavailable when it does not answer."""

    _may_train = reads(may_train)
    _next_ended = reads(ended_after)

    def of(
        self, tenant: str, question: str, least: float, but: frozenset[str]
    ) -> Iterator[tuple[Row, Predicate | Choice | ScaleQuestion]]:
        """Yield the decided rows of a tenant with a confidence of `least` or more, except for the models `but`, with
        their questions; the oldest first. Raise ConfigurationError where the tenant forbids training.
        """
        if not self._may_train(tenant):
            raise ConfigurationError(
                f"the review rules say training = false of the tenant {tenant}: no classifier may learn from its jobs"
            )
        after = (0, "")
        while rows := self._next_ended(tenant, after, "decision"):
            for row in rows:
                end = decode_value(row.terminal_type, row.terminal)
                job = decode_job(row.kind, row.payload)
                if isinstance(job, DecisionJob) and isinstance(end, Result) and job.input is not None:
                    yield from _rows(job, job.input, end, question, least, but)
            after = (rows[-1].ended_at, rows[-1].id)


def _rows(
    job: DecisionJob, text: str, end: Result, name: str, least: float, but: frozenset[str]
) -> Iterator[tuple[Row, Predicate | Choice | ScaleQuestion]]:
    decisions = end.decisions
    if decisions is None or decisions.model in but:
        return
    for question, answer in zip(job.questions, decisions.answers, strict=True):
        if question.name != name:
            continue
        match answer:
            case PredicateAnswer():
                label: str | bool = answer.probability >= 0.5
                confidence = max(answer.probability, 1 - answer.probability)
            case ChoiceAnswer():
                label, confidence = answer.choice, answer.confidence
            case ScoreAnswer():
                best = max(answer.probabilities, key=lambda level: level.probability)
                label, confidence = best.label, answer.confidence
            case _:
                continue
        if confidence >= least:
            yield Row(input=text, label=label), question
