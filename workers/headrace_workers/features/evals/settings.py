"""Settings of evals."""

from typing import ClassVar

from headrace_workers.core.environment import MOST_BYTES, Variables, number


class EvalSettings(Variables):
    """Settings of [evals of OpenAI's clients](reference/evaluations.md#evals-of-openais-clients)."""

    title: ClassVar[str] = "Evals"

    max_evals: int = number(
        1_000,
        "[Evals](reference/evaluations.md#evals-of-openais-clients) that a tenant may have. 0: any number.",
        read_by="gateways",
        ge=0,
    )
    max_eval_bytes: int = number(
        5_000_000_000,
        "Bytes that a tenant's evals, their runs, rows and results may keep in the ledger, from which on no more "
        "begin. 0: any number.",
        read_by="bridges and gateways",
        ge=0,
        le=MOST_BYTES,
    )
