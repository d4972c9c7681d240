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
        "Which earlier answers may be served to jobs that do not say. See "
        "[serve repeated questions](how-to/serve-repeated-questions.md).",
        read_by="bridges, workers and gateways",
    )
    cache_ttl: float = number(
        7 * 86_400.0, "Seconds that an answer may be served again.", read_by=f"{_READ_BY} or decide"
    )
    cache_max_entries: int = number(
        100_000,
        "Most answers of one tenant that may be given again. Beyond that the entries that save the least for their age "
        "are evicted within minutes. 0: any number.",
        read_by="bridges",
        ge=0,
    )
    max_wait: float = 120.0  # seconds that a job waits for another job that makes the same answer
    # Above 1 nothing would be served.
    similarity: float = number(
        0.8,
        "Least cosine of two questions at which one's answer is served to the other, if no guard refuses. "
        "[Why 0.8](decisions/where-likeness-begins.md).",
        read_by=f"{_READ_BY} and `headrace bench`",
        le=1,
    )
    max_error: float = number(
        0.01,
        "Largest accepted share of wrong answers among the answers that a scope serves by likeness. A scope whose "
        "audits show more turns [off](explanation/cache-bound.md).",
        read_by=f"{_READ_BY} and `headrace bench`",
        lt=1,
    )
    serve_unshown: bool = variable(
        False,
        "Serve by likeness before audits have shown that at most HEADRACE_MAX_ERROR of it is wrong. Until then nobody "
        "knows how many of these answers are wrong. Without it a new scope is in "
        "[shadow](explanation/cache-bound.md): it serves the same requests alone, and audits what it would serve.",
        read_by=_READ_BY,
    )
    verify: str | None = variable(
        None,
        "The [verifier](explanation/cache-bound.md#a-verifier) that must say yes before an answer is served by "
        "likeness, and that labels audits which a comparison leaves unknown: a model's alias, or "
        "`sentence-transformers:` and a cross-encoder or NLI model. Measure it first, with "
        "`headrace bench cache FILE --verify MODEL`.",
        read_by="bridges, workers and gateways",
    )
    verify_time: float = 5.0  # seconds that the verifier may take for the questions of a group
    audit_share: float = number(
        0.05,
        "Share of the answers served by likeness that is generated again and compared, and of the answers nearly "
        "served that is compared with the job's own. 0: none. In shadow all are compared.",
        read_by=_READ_BY,
        ge=0,
        le=1,
    )
