"""From a job that names a knowledge base to the prompt with its passages."""

from collections import defaultdict
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from headrace_schemas import GenerationJob, HeadraceError, Message
from headrace_schemas.attributes import AnyFilter, AttributeMap
from headrace_schemas.grounding import Citation, Grounding
from headrace_schemas.limits import MAX_SHORT_TEXT
from headrace_schemas.tool import NO_TOOLS, Offer
from headrace_workers.features.knowledge.admission import no_such_base
from headrace_workers.features.knowledge.grounding import Found, Grounds, NoGrounds, UnknownBase, with_turn
from headrace_workers.features.knowledge.passages import VECTORS, Hit
from headrace_workers.features.knowledge.prompt import INSTRUCTION, Passage, around, pack, shown_passage, user_turn
from headrace_workers.features.knowledge.suspicious import suspicions
from headrace_workers.models.structured.tools import as_json, described, with_format

CANDIDATES: Final = 20  # passages that are looked at: more than go into a prompt
_ANSWERS_SHARE: Final = 4  # an answer keeps its max_tokens, or a quarter of the context where it asks for more


class FindsPassages(Protocol):
    """The knowledge bases. Thread-safe."""

    def search(
        self, tenant: str, knowledge: str, queries: Sequence[str], k: int, *, where: AnyFilter | None = None
    ) -> list[list[Hit]]:
        """For each query the k best passages, best first; none where there is no such base. Unavailable.

        `where`: only of documents whose attributes it lets through.
        """

    def exists(self, tenant: str, knowledge: str) -> bool:
        """Return True if the tenant has such a base. Unavailable with the ledger."""

    def floor(self, tenant: str, knowledge: str) -> float:
        """Return the relevance floor that fits a base. Unavailable."""


class CountsPrompts(Protocol):
    """The cost of prompts in tokens. Thread-safe. Thread-safe. A model that is not here has no context length, and its
    counts are guesses.
    """

    def context_length(self, alias: str) -> int | None:
        """Prompt and answer together, in tokens."""

    def prompt_tokens(
        self, alias: str, messages: Sequence[Message], tenant: str, offer: Offer = NO_TOOLS
    ) -> int | None:
        """Return the tokens of a prompt that offers these tools, None if only a guess can be had. PromptTooLong,
        InvalidTemplate.
        """

    def text_tokens(self, alias: str, text: str) -> int | None:
        """Return the tokens of a text alone, None if only a guess can be had."""


def as_found(_question: str, hits: Sequence[Hit]) -> Sequence[Hit]:
    """Return them as the search had them."""
    return hits


@dataclass(frozen=True, slots=True)
class Retrieval:
    """Finds what answers may rest on. Thread-safe.

    A passage needs a cosine of `floor` to the question; None: the floor that fits its base. Passages take `most_tokens`
    of a prompt at most, and never more than fit its model. `guess` counts tokens where the model has no tokenizer here.
    """

    bases: Callable[[], FindsPassages]
    counts: CountsPrompts
    guess: Callable[[str], int]
    floor: float | None
    most_tokens: int
    rerank: Callable[[str, Sequence[Hit]], Sequence[Hit]] = as_found

    def find(self, jobs: Sequence[GenerationJob], without: Sequence[Collection[str]] | None = None) -> list[Found]:
        """Return what is found for each job, each of which names a base, in their order. Unavailable.

        `without`: the ids of chunks that are not to be used, of each job.
        """
        try:
            bases = self.bases()
        except HeadraceError as error:  # it concerns those alone that ask for passages
            return [error] * len(jobs)
        found: list[Found | None] = [None] * len(jobs)
        of_base: dict[tuple[str, str, str], list[int]] = defaultdict(list)
        for index, job in enumerate(jobs):
            # By its JSON: Python takes a filter for true and one for 1 as the same.
            where = "" if job.knowledge_filter is None else job.knowledge_filter.model_dump_json()
            of_base[job.tenant, job.knowledge or "", where].append(index)
        barred = without or [()] * len(jobs)
        for (tenant, knowledge, _), places in of_base.items():
            ours = [(jobs[index], barred[index]) for index in places]
            for index, item in zip(places, self._of(bases, tenant, knowledge, ours), strict=True):
                found[index] = item
        return [item for item in found if item is not None]

    def _of(
        self, bases: FindsPassages, tenant: str, knowledge: str, jobs: Sequence[tuple[GenerationJob, Collection[str]]]
    ) -> list[Found]:
        """Return the same for jobs of one base, and with one filter."""
        if not bases.exists(tenant, knowledge):
            return [UnknownBase(no_such_base((tenant, knowledge)))] * len(jobs)
        queries = [job.question for job, _ in jobs if job.question.strip()]
        where = jobs[0][0].knowledge_filter
        hits = iter(bases.search(tenant, knowledge, queries, CANDIDATES, where=where) if queries else ())
        floor = bases.floor(tenant, knowledge) if self.floor is None else self.floor
        return [
            self._grounds(
                job, self.rerank(job.question, [hit for hit in next(hits) if hit.chunk.id not in barred]), floor
            )
            if job.question.strip()
            else NoGrounds(_grounding(job, floor, reason="the question is empty"))
            for job, barred in jobs
        ]

    def _grounds(self, job: GenerationJob, hits: Sequence[Hit], floor: float) -> Found:
        best = max((relevance_of(hit) for hit in hits), default=None)
        try:
            room = self._room(job)
        except HeadraceError as error:  # the prompt alone cannot run: its model has changed since it was taken in
            return error
        passages = {id(hit.chunk): hit for hit in hits}
        packed = pack(
            [Passage(hit.chunk, relevance_of(hit)) for hit in hits],
            room,
            floor,
            lambda passage: self._count(job.first_model, around(passage)),
        )
        if not packed.relevant:
            return NoGrounds(_grounding(job, floor, best, reason=_why(job, hits, best, floor)))
        chosen = list(packed.passages)
        while chosen:
            turn = user_turn(job.question, chosen)
            tokens = self._fitting(job, turn)
            if tokens is not None:
                of_each = [passages[id(passage.chunk)] for passage in chosen]
                used = {(hit.document_id, hit.version): hit.added_at for hit in of_each}
                citations = tuple(
                    _citation(number, passage, hit.attributes)
                    for number, (passage, hit) in enumerate(zip(chosen, of_each, strict=True), start=1)
                )
                return Grounds(
                    _grounding(job, floor, best, citations),
                    turn,
                    tokens,
                    tuple(used),
                    tuple(used.values()),
                    tuple(shown_passage(number, passage) for number, passage in enumerate(chosen, start=1)),
                )
            chosen.pop()  # parts of a text have a few tokens less than the whole
        reason = "no relevant passage fits into the model's context beside the prompt and its answer"
        return NoGrounds(_grounding(job, floor, best, reason=reason))

    def _room(self, job: GenerationJob) -> int:
        """Return how many tokens the passages of this job's prompt may have. PromptTooLong, InvalidTemplate."""
        context = self.counts.context_length(job.first_model)
        if context is None:
            return self.most_tokens
        prompt = self._prompt_tokens(job, job.conversation) + self._count(job.first_model, INSTRUCTION)
        return min(self.most_tokens, context - prompt - self._kept(job, context))

    def _fitting(self, job: GenerationJob, turn: str) -> int | None:
        """Return what the job costs with this turn; None if that does not fit its model."""
        context = self.counts.context_length(job.first_model)
        try:
            prompt = self._prompt_tokens(job, with_turn(job, turn)) if context else self.guess(turn)
        except HeadraceError:
            return None
        if context is not None and prompt + self._kept(job, context) > context:
            return None
        return prompt + job.sampling.max_tokens

    def _kept(self, job: GenerationJob, context: int) -> int:
        """Tokens of the context that are the answer's."""
        return max(1, min(job.sampling.max_tokens, context // _ANSWERS_SHARE))

    def _prompt_tokens(self, job: GenerationJob, messages: Sequence[Message]) -> int:
        messages = with_format(messages, job)
        counted = self.counts.prompt_tokens(job.first_model, messages, job.tenant, job.offer)
        if counted is not None:
            return counted
        texts = [message.content for message in messages] + [as_json(described(tool)) for tool in job.offer.tools]
        return sum(map(self.guess, texts))

    def _count(self, model: str, text: str) -> int:
        counted = self.counts.text_tokens(model, text)
        return self.guess(text) if counted is None else counted


def _why(job: GenerationJob, hits: Sequence[Hit], best: float | None, floor: float) -> str:
    """Why no passage was used."""
    if not hits:
        return "nothing was found" if job.knowledge_filter is None else "knowledge_filter matches no document"
    if all(VECTORS not in hit.scores for hit in hits):
        return "the documents were embedded by another model than the recall worker's: add them again"
    return f"the most relevant passage has {best:.2f}; the floor is {floor:.3g}"


def _grounding(
    job: GenerationJob,
    floor: float,
    best: float | None = None,
    citations: tuple[Citation, ...] = (),
    reason: str | None = None,
) -> Grounding:
    return Grounding(
        knowledge=job.knowledge or "",
        relevance=None if best is None else round(best, 4),
        floor=floor,
        citations=citations,
        reason=reason,
    )


def relevance_of(hit: Hit) -> float:
    """Return the cosine to the question; 0 if the passage is not among the nearest."""
    return min(1.0, max(-1.0, hit.scores.get(VECTORS, 0.0)))


def _citation(number: int, passage: Passage, attributes: AttributeMap) -> Citation:
    chunk = passage.chunk
    start, stop = chunk.span
    return Citation(
        number=number,
        document=chunk.document[:MAX_SHORT_TEXT],
        section=chunk.section[:MAX_SHORT_TEXT],
        start=start,
        stop=stop,
        chunk=chunk.id,
        relevance=round(passage.relevance, 4),
        suspicious=tuple(dict.fromkeys(suspicion.reason.value for suspicion in suspicions(chunk.indexed))),
        attributes=dict(attributes),
    )
