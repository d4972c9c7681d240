"""Settings of judging."""

from typing import ClassVar

from headrace_workers.core.environment import Variables, variable


class JudgingSettings(Variables):
    """Settings of judging."""

    title: ClassVar[str] = "Judging"

    grounded_verify: str | None = variable(
        None,
        "The [verifier](explanation/judging.md#a-verifier) that says for each sentence of an answer whether its "
        "evidence supports it, in place of the rules of `grounded`: a model's alias, or `sentence-transformers:` and a "
        "cross-encoder or NLI model. Measure it first, with `headrace bench groundedness FILE --verify MODEL`.",
        read_by="bridges, workers and gateways",
    )
    grounded_verify_time: float = 60.0  # seconds that the verifier may take for the answers of a group
