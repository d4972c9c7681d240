"""Admission of embeddings and knowledge bases: the embedder and the base that a job names must exist."""

from collections.abc import Callable, Collection

from headrace_schemas import EmbeddingJob, GenerationJob
from headrace_schemas.errors import InvalidRecord, UnknownResource
from headrace_workers.core.admission import AdmissionCheck, KnownEmbedder, Named
from headrace_workers.core.pipeline.task import Job


def no_such_base(base: Named) -> str:
    """Say that a tenant has no base of this name, and how it gets one."""
    tenant, name = base
    return (
        f"{tenant} has no knowledge base {name!r}, nor a vector store of this id: "
        f"`headrace knowledge add {name} PATH --tenant {tenant}` makes a base; then send the job again"
    )


class KnowledgeCheck(AdmissionCheck):
    """The check of embedders and of knowledge bases. `unknown` returns the bases that do not exist."""

    def __init__(self, embedder: KnownEmbedder, unknown: Callable[[Collection[Named]], Collection[Named]]) -> None:
        self._embedder = embedder
        self._unknown = unknown

    def check(self, job: Job) -> None:
        """Raise UnknownModel where the job asks for an embedder that is not here."""
        if isinstance(job, EmbeddingJob):
            self._embedder.check(job.model)

    def examine(self, job: Job) -> int | None:
        """Return the tokens of a text to embed, None where only a guess can be had. Raise InputTooLong."""
        return self._embedder.input_tokens(job.model, job.input) if isinstance(job, EmbeddingJob) else None

    def named(self, job: Job, _models: Collection[str]) -> Collection[str]:
        """Return the knowledge base that the job names, if it names one."""
        return () if not isinstance(job, GenerationJob) or job.knowledge is None else (job.knowledge,)

    def unknown(self, named: Collection[Named]) -> Collection[Named]:
        """Return the knowledge bases that do not exist."""
        return self._unknown(named)

    def missing(self, named: Named) -> InvalidRecord:
        """Return the error of a job that names this base, which does not exist."""
        return UnknownResource(no_such_base(named), param="knowledge")
