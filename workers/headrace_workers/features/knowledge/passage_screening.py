"""Passages that are looked at before a model reads them: who writes a document may mean to give the model orders."""

from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from itertools import groupby
from typing import Final, Literal, NamedTuple, Protocol

from headrace_schemas import GenerationJob, HeadraceError, ModerationVerdict
from headrace_schemas.errors import Unavailable
from headrace_schemas.grounding import Citation, LeftOut, Screening
from headrace_schemas.reasons import reason_of
from headrace_workers.core.ledger.outcome import Held
from headrace_workers.core.pipeline.receipt import review_reason
from headrace_workers.core.pipeline.task import Task
from headrace_workers.core.ports import Moderation, Moderator
from headrace_workers.core.tables import RELEASED
from headrace_workers.features.knowledge.grounds import Found, Grounds, NoGrounds

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


class Look(NamedTuple):
    """The decision about a job's passages: which are left out, which texts a model must judge, and what each receipt
    says.
    """

    screenings: tuple[Screening, ...]
    review: str | None = None

    @property
    def blocks(self) -> bool:
        """Return True if a passage is left out."""
        return any(each.action == "block" for each in self.screenings)


def find_screened(tasks: Sequence[Task], retrieval: Retrieves, screener: Callable[[], Moderator]) -> list[Found | Held]:
    """Return what is found for each task, each of which names a base. Screen passages one by one if their prompt was.

    A passage that the policy blocks is left out, and another takes its place. A passage that the policy wants reviewed,
    or that could not be screened, holds the job.
    """
    jobs = [task.job for task in tasks if isinstance(task.job, GenerationJob)]
    found: list[Found | Held] = [*retrieval.find(jobs)]
    left_out: list[tuple[LeftOut, ...]] = [() for _ in tasks]
    open_ = [place for place, task in enumerate(tasks) if SCREENED in task.context]
    for _ in range(_ROUNDS):
        looked = _looked({place: each for place in open_ if isinstance(each := found[place], Grounds)}, tasks, screener)
        open_ = []
        for place, (grounds, look) in looked.items():
            if isinstance(look, HeadraceError):
                found[place] = Held(f"passages: {reason_of(look)}", needs_person=False)
            elif look.blocks:
                left_out[place] += _left_out(grounds, look)
                open_.append(place)
            elif look.review is not None and tasks[place].woken_by != RELEASED:
                found[place] = Held(look.review)
            else:
                found[place] = _with_screening(grounds, look)
        if not open_:
            return [_without(each, out) for each, out in zip(found, left_out, strict=True)]
        again = retrieval.find([jobs[place] for place in open_], [{o.chunk for o in left_out[p]} for p in open_])
        for place, each in zip(open_, again, strict=True):
            found[place] = each
    for place in open_:
        found[place] = Unavailable("the knowledge base changed each time that its passages were screened")
    return [_without(each, out) for each, out in zip(found, left_out, strict=True)]


def looked_at(citations: Sequence[Citation], verdicts: Sequence[Moderation | HeadraceError]) -> Look | HeadraceError:
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
    found: dict[int, Grounds], tasks: Sequence[Task], screener: Callable[[], Moderator]
) -> dict[int, tuple[Grounds, Look | HeadraceError]]:
    """Look at all passages at once."""
    if not found:
        return {}
    texts = [(place, text) for place, grounds in found.items() for text in grounds.shown]
    tenants = [tasks[place].job.tenant for place, _ in texts]
    verdicts: Sequence[Moderation | HeadraceError]
    try:
        verdicts = screener().moderate([text for _, text in texts], tenants)
    except HeadraceError as error:  # the policy's head needs an embedder that is not here, say
        verdicts = [error] * len(texts)
    pairs = zip(texts, verdicts, strict=True)
    of_each = {place: [verdict for _, verdict in group] for place, group in groupby(pairs, key=lambda pair: pair[0][0])}
    return {place: (each, looked_at(each.grounding.citations, of_each[place])) for place, each in found.items()}


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
            document=each.document,
            section=each.section,
            start=each.start,
            stop=each.stop,
            chunk=each.chunk,
            relevance=each.relevance,
            screening=screening,
        )
        for each, screening in zip(grounds.grounding.citations, look.screenings, strict=True)
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
