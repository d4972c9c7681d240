"""The passages of a job's answer: results of the search, their screening, and the citations in the answer. The job's
context carries them from the search to the step in which the job ends.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any, Final, Literal, NamedTuple, Protocol

from headrace_schemas import Answer, GenerationJob, HeadraceError, Message, ModerationVerdict, Output, Usage
from headrace_schemas.errors import Unavailable
from headrace_schemas.grounding import MAX_UNKNOWN, Citation, Grounding, LeftOut, Screening, WithoutPassages
from headrace_schemas.reasons import reason_of
from headrace_schemas.recall import Recall
from headrace_workers.core.ledger.outcome import Done, Held
from headrace_workers.core.pipeline.receipt import review_reason
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.tables import RELEASED


@dataclass(frozen=True, slots=True)
class Grounds:
    """Passages that an answer may rest on. `turn` is the user's turn with them, `tokens` what the job costs with it.

    `used` are the documents that they come from, as they were, id and version; each is so since `since` (ms of the
    database's clock). `shown` are the passages as the turn has them, but for their marks.
    """

    grounding: Grounding
    turn: str
    tokens: int
    used: tuple[tuple[int, str], ...]
    since: tuple[int, ...] = ()
    shown: tuple[str, ...] = ()

    def newer(self, than: int) -> set[tuple[int, str]]:
        """Return the documents that changed after that time."""
        return {used for used, since in zip(self.used, self.since, strict=True) if since > than}


@dataclass(frozen=True, slots=True)
class NoGrounds:
    """No passage could be used; `grounding.reason` says why."""

    grounding: Grounding


class UnknownBase(HeadraceError):
    """A knowledge base that the job's tenant does not have: it was never filled, or is emptied."""


Found = Grounds | NoGrounds | HeadraceError


def with_turn(job: GenerationJob, turn: str) -> tuple[Message, ...]:
    """Return the conversation with another last turn of the user; the system prompt stays as it is."""
    messages = list(job.conversation)
    place = max(at for at, message in enumerate(messages) if message.role == "user")
    messages[place] = messages[place].model_copy(update={"content": turn})
    return tuple(messages)


# Citations in an answer: the passages that it refers to. Pure, and linear in the answer.

_CODE: Final = re.compile(r"```.*?(?:```|\Z)|`[^`\n]*`", re.DOTALL)
# [1], [1, 2], [1-3], 【1】; a link's text, as in [1](https://…), is none.
_CITED: Final = re.compile(r"[\[【]\s{0,2}(\d{1,6}(?:\s{0,2}[,;–-]\s{0,2}\d{1,6}){0,50})\s{0,2}[\]】](?!\()")
_RANGE: Final = re.compile(r"(\d+)(?:\s*[–-]\s*(\d+))?")
_WIDEST: Final = 100  # numbers of a range; of a wider one its ends count


@dataclass(frozen=True, slots=True)
class Cited:
    """The numbers that an answer cites, each once, as first mentioned. `unknown` are numbers of no passage."""

    numbers: tuple[int, ...]
    unknown: tuple[int, ...]


def cited(answer: str, passages: int) -> Cited:
    """Return what the answer cites of so many passages, [1] to [passages]. A number in code is no citation."""
    numbers = tuple(dict.fromkeys(_numbers(answer)))
    known = tuple(number for number in numbers if 1 <= number <= passages)
    return Cited(known, tuple(number for number in numbers if number not in known))


def _numbers(answer: str) -> list[int]:
    found: list[int] = []
    for mark in _CITED.finditer(_CODE.sub(" ", answer)):
        for first, last in _RANGE.findall(mark[1]):
            start, stop = int(first), int(last or first)
            found += range(start, stop + 1) if start <= stop < start + _WIDEST else (start, stop)
    return found


KNOWLEDGE: Final = "knowledge"  # the name under which what was found goes on with the job
_TURN: Final = "turn"  # in it, the user's turn with the passages
_GROUNDING: Final = "grounding"  # and what the receipt says of them
_NO_BASE: Final = {"knowledge": None, "knowledge_filter": None, "without_passages": None}
USED: Final = "used"  # the documents that they come from, as they were: [id, version]


def grounded(found: Grounds) -> Done:
    """Send the job on to its model with these passages."""
    known = {_GROUNDING: found.grounding.model_dump(mode="json", exclude_none=True), _TURN: found.turn}
    return Done(context={KNOWLEDGE: known, USED: [list(row) for row in found.used]}, tokens=found.tokens)


def ungrounded(job_id: str, job: GenerationJob, found: NoGrounds, recall: Recall | None) -> Done:
    """Let a job without usable passages abstain, or go on to its model without them, as it says."""
    if job.without_passages is WithoutPassages.ANSWER:
        return Done(context={KNOWLEDGE: {_GROUNDING: found.grounding.model_dump(mode="json", exclude_none=True)}})
    return Done(
        Output(
            job_id=job_id,
            tenant=job.tenant,
            answer=Answer(
                text="",
                finish_reason="abstained",
                model=job.model,
                quantization="none",
                usage=Usage(prompt_tokens=0, completion_tokens=0),
                recall=recall,
                grounding=found.grounding,
            ),
        )
    )


def afresh(job: GenerationJob, found: Found | None) -> GenerationJob | None:
    """Return the job with its passages in it, to be asked once more without a search; None if they cannot be had."""
    match found:
        case None:
            return job if job.knowledge is None else None
        case Grounds():
            return job.model_copy(update={"prompt": None, "messages": with_turn(job, found.turn), **_NO_BASE})
        case NoGrounds() if job.without_passages is WithoutPassages.ANSWER:
            return job.model_copy(update=_NO_BASE)
    return None


def turn_of(context: Mapping[str, Any]) -> str | None:
    """Return the user's turn with the passages; None if there are none."""
    turn: str | None = context.get(KNOWLEDGE, {}).get(_TURN)
    return turn


def conversation_of(job: GenerationJob, context: Mapping[str, Any]) -> tuple[Message, ...] | None:
    """Return the job's conversation with its passages; None where it has none."""
    turn = turn_of(context)
    return None if turn is None else with_turn(job, turn)


def answer_fields(context: Mapping[str, Any], text: str) -> Mapping[str, Grounding]:
    """Return what the receipt of an answer with this text says of its grounds; nothing where a job named no base."""
    found = context.get(KNOWLEDGE)
    if found is None:
        return {}
    grounding = Grounding.model_validate(found[_GROUNDING])
    citations = cited(text, len(grounding.citations))
    grounding = grounding.model_copy(
        update={
            "citations": tuple(
                citation.model_copy(update={"cited": citation.number in citations.numbers})
                for citation in grounding.citations
            ),
            "unknown": citations.unknown[:MAX_UNKNOWN],
        }
    )
    return {"grounding": grounding}


# Passages that are looked at before a model reads them: who writes a document may mean to give the model orders.

SCREENED: Final = "screened"  # the name under which later stages learn of a screened prompt
_CATEGORY: Final = "prompt_injection"
# Each time at least one passage of a job is left out, and as many are looked for as a search finds: see retrieval.py.
_ROUNDS: Final = 21


class Retrieves(Protocol):
    """Finds passages in knowledge bases, and makes prompts of them. Thread-safe."""

    def find(self, jobs: Sequence[GenerationJob], without: Sequence[Collection[str]] | None = None) -> list[Found]:
        """Return what is found for each job, each of which names a base, in their order. `without`: the ids of chunks
        that are not to be used, of each.
        """


class Screened(Protocol):
    """A passage that was screened."""

    @property
    def verdict(self) -> ModerationVerdict:
        """Return the decision about it."""


class Screener(Protocol):
    """Looks at passages by the policies of tenants. Thread-safe."""

    def moderate(self, texts: Sequence[str], tenants: Sequence[str]) -> Sequence[Screened | HeadraceError]:
        """Return a verdict for each text, by its tenant's policy. An error means that the text was not screened."""


class Look(NamedTuple):
    """The decision about a job's passages: which are left out, which texts a model must judge, and what each receipt
    says.
    """

    screenings: tuple[Screening, ...]
    review: str | None = None

    @property
    def blocks(self) -> bool:
        """Return True if a passage is left out."""
        return any(screening.action == "block" for screening in self.screenings)


def find_screened(tasks: Sequence[Task], retrieval: Retrieves, screener: Callable[[], Screener]) -> list[Found | Held]:
    """Return what is found for each task, each of which names a base. Screen passages one by one if their prompt was.

    A passage that the policy blocks is left out, and another takes its place. A passage that the policy wants reviewed,
    or that could not be screened, holds the job.
    """
    jobs = [task.job for task in tasks if isinstance(task.job, GenerationJob)]
    found: list[Found | Held] = [*retrieval.find(jobs)]
    left_out: list[tuple[LeftOut, ...]] = [() for _ in tasks]
    open_ = [index for index, task in enumerate(tasks) if SCREENED in task.context]
    for _ in range(_ROUNDS):
        looked = _looked({index: each for index in open_ if isinstance(each := found[index], Grounds)}, tasks, screener)
        open_ = []
        for index, (grounds, look) in looked.items():
            if isinstance(look, HeadraceError):
                found[index] = Held(f"passages: {reason_of(look)}", needs_person=False)
            elif look.blocks:
                left_out[index] += _left_out(grounds, look)
                open_.append(index)
            elif look.review is not None and tasks[index].woken_by != RELEASED:
                found[index] = Held(look.review)
            else:
                found[index] = _with_screening(grounds, look)
        if not open_:
            return [_without(item, out) for item, out in zip(found, left_out, strict=True)]
        again = retrieval.find([jobs[index] for index in open_], [{o.chunk for o in left_out[p]} for p in open_])
        for index, each in zip(open_, again, strict=True):
            found[index] = each
    for index in open_:
        found[index] = Unavailable("the knowledge base changed each time that its passages were screened")
    return [_without(item, out) for item, out in zip(found, left_out, strict=True)]


def looked_at(citations: Sequence[Citation], verdicts: Sequence[Screened | HeadraceError]) -> Look | HeadraceError:
    """Return what is to be done about passages with these verdicts: only findings of prompt injection count."""
    screenings = []
    review: str | None = None
    for citation, verdict in zip(citations, verdicts, strict=True):
        if isinstance(verdict, HeadraceError):
            return verdict
        injection = _of_injection(verdict.verdict)
        actions = {finding.action for finding in injection.findings}
        # There is no part of a passage that is worth keeping without its orders: `redact` leaves it out, too.
        done: Literal["allow", "block"] = "block" if actions & {"block", "redact"} else "allow"
        score = max((finding.score for finding in injection.findings), default=0.0)
        screenings.append(Screening(action=done, score=score, policy=injection.policy))
        if "review" in actions and review is None:
            review = f"passage {citation.number}, of {citation.document}: {review_reason(injection)}"
    return Look(tuple(screenings), review)


def _looked(
    found: dict[int, Grounds], tasks: Sequence[Task], screener: Callable[[], Screener]
) -> dict[int, tuple[Grounds, Look | HeadraceError]]:
    """Look at all passages at once."""
    if not found:
        return {}
    texts = [(place, text) for place, grounds in found.items() for text in grounds.shown]
    tenants = [tasks[place].job.tenant for place, _ in texts]
    verdicts: Sequence[Screened | HeadraceError]
    try:
        verdicts = screener().moderate([text for _, text in texts], tenants)
    except HeadraceError as error:  # the policy's head needs an embedder that is not here, say
        verdicts = [error] * len(texts)
    pairs = zip(texts, verdicts, strict=True)
    of_each = {place: [verdict for _, verdict in group] for place, group in groupby(pairs, key=lambda pair: pair[0][0])}
    return {
        place: (grounds, looked_at(grounds.grounding.citations, of_each[place])) for place, grounds in found.items()
    }


def _of_injection(verdict: ModerationVerdict) -> ModerationVerdict:
    """Return the verdict with its findings of prompt injection only."""
    findings = tuple(finding for finding in verdict.findings if finding.category == _CATEGORY)
    return verdict.model_copy(update={"findings": findings})


def _with_screening(grounds: Grounds, look: Look) -> Grounds:
    """Return the grounds with a receipt that says that they were screened."""
    pairs = zip(grounds.grounding.citations, look.screenings, strict=True)
    citations = tuple(citation.model_copy(update={"screening": screening}) for citation, screening in pairs)
    return replace(grounds, grounding=grounds.grounding.model_copy(update={"citations": citations}))


def _left_out(grounds: Grounds, look: Look) -> tuple[LeftOut, ...]:
    return tuple(
        LeftOut(
            document=citation.document,
            section=citation.section,
            start=citation.start,
            stop=citation.stop,
            chunk=citation.chunk,
            relevance=citation.relevance,
            screening=screening,
        )
        for citation, screening in zip(grounds.grounding.citations, look.screenings, strict=True)
        if screening.action == "block"
    )


def _without(found: Found | Held, left_out: tuple[LeftOut, ...]) -> Found | Held:
    """Return the same with a receipt that says what was left out."""
    if not left_out or not isinstance(found, Grounds | NoGrounds):
        return found
    context: dict[str, object] = {"left_out": left_out}
    if isinstance(found, NoGrounds):
        context["reason"] = f"screening left out what is relevant: {len(left_out)} of its passages give a model orders"
    return replace(found, grounding=found.grounding.model_copy(update=context))
