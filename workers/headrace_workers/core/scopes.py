"""The scopes of API keys: jobs, metrics, and the scopes that features add. To write implies to read."""

from collections.abc import Collection, Iterable
from functools import cache, lru_cache
from typing import Final, NewType

from headrace_schemas import GenerationJob, TuningJob
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.job import AnyJob
from headrace_workers.core.feature import installed

Scope = NewType("Scope", str)  # one permission, such as "files:read"

JOBS_READ: Final = Scope("jobs:read")  # jobs, their ends and events; models
JOBS_WRITE: Final = Scope("jobs:write")  # send, cancel, and ask for answers
REVIEWS_TEXTS: Final = Scope("reviews:texts")  # texts that moderation has not allowed
# Of the whole deployment: of no tenant's business, and never given unasked.
METRICS: Final = Scope("metrics")  # figures
OPERATOR: Final = Scope("operator")  # the console's pages about processes, and about the jobs of all tenants


@cache
def all_scopes() -> tuple[Scope, ...]:
    """Return all scopes that a key may have."""
    return (JOBS_READ, JOBS_WRITE, *(scope for feature in installed() for scope in feature.scopes), METRICS, OPERATOR)


def usual_scopes() -> frozenset[Scope]:
    """Return the scopes of a key for which a person names none."""
    return frozenset(all_scopes()) - {METRICS, OPERATOR}


@lru_cache(maxsize=256)  # each request asks, and few keys have others than most
def granted(names: tuple[str, ...]) -> frozenset[Scope]:
    """Return the scopes of a stored key; a scope that this version does not know grants nothing."""
    return frozenset(all_scopes()).intersection(names)


def scopes_of(names: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes that a person names. Raise ConfigurationError for an unknown scope."""
    named = tuple(names)
    for name in named:
        if name not in all_scopes():
            raise ConfigurationError(f"--scope is {name!r}; it may be {', '.join(all_scopes())}")
    return granted(named)


def allows(has: Collection[Scope], wanted: Scope) -> bool:
    """Return True if these scopes include that scope."""
    return wanted in has or (wanted.endswith(":read") and f"{wanted.removesuffix('read')}write" in has)


KNOWLEDGE: Final = "knowledge"
WEBHOOKS: Final = "webhooks"
FILES: Final = "files"
FAMILIES: Final = (KNOWLEDGE, WEBHOOKS, FILES)  # of resources that a job can name


def resources_named_by(job: AnyJob) -> dict[str, str]:
    """Return the family of each resource that a job names, by the field that names it."""
    found = {}
    if isinstance(job, GenerationJob) and job.knowledge is not None:
        found["knowledge"] = KNOWLEDGE
    if job.callback is not None and job.callback.endpoint is not None:
        found["callback.endpoint"] = WEBHOOKS
    if isinstance(job, TuningJob):
        found["training_file"] = FILES  # and the other file
    return found
