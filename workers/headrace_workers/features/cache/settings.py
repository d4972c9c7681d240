"""Settings of the cache of answers."""

from typing import ClassVar

from headrace_schemas.recall import CacheMode
from headrace_workers.core.environment import Variables, number, variable

_READ_BY = "workers that recall"


class CacheSettings(Variables):
    """Settings of the cache of answers."""

    title: ClassVar[str] = "Cache"

    cache: CacheMode = variable(
        CacheMode.OFF,
        "Which earlier answers are good enough for jobs that do not say. See [recall](recall.md).",
        read_by="bridges, workers and gateways",
    )
    cache_ttl: float = number(7 * 86_400.0, "Seconds that an answer may be given again.", read_by=_READ_BY)
    cache_max_entries: int = number(
        100_000,
        "Most answers of one tenant that may be given again. Beyond that the entries that save the least for their age "
        "are evicted within minutes. 0: any number.",
        read_by="bridges",
        ge=0,
    )
    max_wait: float = number(
        120.0,
        "Seconds that a job waits for another job that makes the same answer, before it makes its own.",
        read_by=_READ_BY,
    )
    # Above 1 nothing would be served.
    similarity: float = number(
        0.8,
        "Cosine of two questions from which on the answer to the one may be given to the other, if no guard refuses. A "
        "scope's [curve](recall-bound.md) may come to ask for more, or for less. "
        "[Why 0.8](decisions/where-likeness-begins.md).",
        read_by=f"{_READ_BY} and `headrace bench`",
        le=1,
    )
    max_error: float = number(
        0.01,
        "Largest share of wrong answers that a scope may have among those served by likeness. A scope that audits show "
        "to have more is [off](recall-bound.md).",
        read_by=f"{_READ_BY} and `headrace bench`",
        lt=1,
    )
    audit_share: float = number(
        0.05,
        "Share of the answers served by likeness that is made afresh, to see how often likeness is wrong, and of the "
        "answers nearly served that is compared with the job's own. 0: none.",
        read_by=_READ_BY,
        ge=0,
        le=1,
    )
