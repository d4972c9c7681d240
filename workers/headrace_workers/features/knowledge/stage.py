"""The stage in which embedding jobs get their vectors, and its step."""

from collections.abc import Callable, Sequence
from typing import Final

from headrace_schemas import Category, Embedding, EmbeddingJob, HeadraceError, Usage
from headrace_schemas.errors import UnknownModel
from headrace_workers.core.ledger.outcome import Dead, Ended, Outcome, outcome_of
from headrace_workers.core.pipeline.receipt import receipt
from headrace_workers.core.pipeline.stage import EMBEDDER_ROLE, Stage, Weight
from headrace_workers.core.pipeline.task import Task
from headrace_workers.models.embedders.embedder import CountingEmbedder, check_whole


class TooManyDimensions(HeadraceError):
    """More are asked for than the embedder's vectors have."""

    category = Category.INVALID


def embed(tasks: Sequence[Task], *, embedder: Callable[[], CountingEmbedder], embedder_alias: str) -> list[Outcome]:
    """Embed all texts in one call; the i-th outcome belongs to the i-th task.

    `embedder` gives the same one each time, which jobs name `embedder_alias`, or raises what keeps it from that. A text
    that it would not read whole is refused, and so are more dimensions than it has.
    """
    outcomes: list[Outcome] = [_not_an_embedding(task) for task in tasks]
    jobs = {index: task.job for index, task in enumerate(tasks) if isinstance(task.job, EmbeddingJob)}
    if not jobs:
        return outcomes
    model = embedder()
    tokens: dict[int, int] = {}
    for index, job in jobs.items():
        try:
            tokens[index] = _checked(job, model, embedder_alias)
        except HeadraceError as error:
            outcomes[index] = outcome_of(error)
    if not tokens:
        return outcomes
    from headrace_workers.models.embedders.unit import packed

    vectors = model.embed([jobs[index].input for index in tokens])
    for (index, read), vector in zip(tokens.items(), vectors, strict=True):
        job = jobs[index]
        dimensions = job.dimensions or model.dimensions
        made = Embedding(
            model=job.model,
            embedder=model.id,
            dimensions=dimensions,
            vector=packed(vector, dimensions),
            usage=Usage(prompt_tokens=read, completion_tokens=0),
        )
        outcomes[index] = Ended(receipt(tasks[index], embedding=made))
    return outcomes


def _checked(job: EmbeddingJob, model: CountingEmbedder, alias: str) -> int:
    """Return the tokens that are read for a job; raise what keeps it from being done."""
    if job.model != alias:
        raise UnknownModel(
            f"no embedder is called {job.model!r} here; there is: {alias}. Bridges and recall workers need the same "
            "HEADRACE_EMBEDDER"
        )
    if job.dimensions is not None and job.dimensions > model.dimensions:
        raise TooManyDimensions(
            f"dimensions is {job.dimensions}, and vectors of {alias} have {model.dimensions}: ask for so many at most"
        )
    tokens = model.count_tokens(job.input) + model.added_tokens
    check_whole(alias, tokens, model.max_tokens)
    return tokens


def _not_an_embedding(task: Task) -> Outcome:
    return Dead(Category.PERMANENT, f"embedding takes embedding jobs, not {type(task.job).__name__}")


# By workers that hold an embedder already. Looking up is quick and comes first, so that groups are short: who looks up,
# or moderates in the same process, waits for one.
EMBED: Final = Stage(
    name="embed",
    order=10,
    takes=(EmbeddingJob,),
    step=embed,
    weight=Weight.ENCODER,
    done_by=EMBEDDER_ROLE,
    needs=("embedder", "embedder_alias"),
    quantum=0.5,
)
