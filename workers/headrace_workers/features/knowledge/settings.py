"""Settings of knowledge bases."""

from typing import ClassVar

from headrace_workers.core.environment import Variables, number, variable

_READ_BY = "workers that recall"


class KnowledgeSettings(Variables):
    """Settings of the search for passages."""

    title: ClassVar[str] = "Knowledge"

    # Above 1 no passage would be used.
    relevance: float | None = number(
        None,
        "Least cosine between the question and a passage that is used, for all bases. Unset: for each base the floor "
        "that fits it, at least 0.35, or 0.28 for a small base. See "
        "[the relevance floor](explanation/retrieval.md#the-relevance-floor).",
        read_by=f"{_READ_BY} and `headrace bench`",
        le=1,
    )
    passage_tokens: int = number(1_000, "Most tokens of a prompt that passages take.", read_by=_READ_BY)
    reranker: str | None = variable(
        None,
        "The cross-encoder that orders the passages found: `sentence-transformers:NAME`. See "
        "[a reranker](explanation/retrieval.md#a-reranker).",
        read_by=_READ_BY,
    )
    rerank_time: float = 2.0  # seconds that the reranker may take for one question
