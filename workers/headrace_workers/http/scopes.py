"""The scopes of API keys: a closed set. To write implies to read."""

from collections.abc import Collection, Iterable
from enum import StrEnum
from functools import lru_cache
from typing import Final

from headrace_schemas.errors import ConfigurationError


class Scope(StrEnum):
    """One permission."""

    JOBS_READ = "jobs:read"  # jobs, their ends and events; models
    JOBS_WRITE = "jobs:write"  # send, cancel, and ask for answers
    FILES_READ = "files:read"
    FILES_WRITE = "files:write"
    BATCHES_READ = "batches:read"
    BATCHES_WRITE = "batches:write"
    EVALS_READ = "evals:read"
    EVALS_WRITE = "evals:write"
    KNOWLEDGE_READ = "knowledge:read"  # vector stores
    KNOWLEDGE_WRITE = "knowledge:write"
    WEBHOOKS_READ = "webhooks:read"
    WEBHOOKS_WRITE = "webhooks:write"
    USAGE_READ = "usage:read"
    METRICS = "metrics"  # figures of the whole deployment: of no tenant's business, and never given unasked


USUAL: Final = frozenset(Scope) - {Scope.METRICS}


@lru_cache(maxsize=256)  # each request asks, and few keys have others than most
def granted(names: tuple[str, ...]) -> frozenset[Scope]:
    """Return the scopes of a stored key; a scope that this version does not know grants nothing."""
    known = {str(scope) for scope in Scope}
    return frozenset(Scope(name) for name in names if name in known)


def scopes_of(names: Iterable[str]) -> frozenset[Scope]:
    """Return the scopes that a person names. Raise ConfigurationError for an unknown scope."""
    found = set()
    for name in names:
        try:
            found.add(Scope(name))
        except ValueError:
            raise ConfigurationError(f"--scope is {name!r}; it may be {', '.join(Scope)}") from None
    return frozenset(found)


def allows(has: Collection[Scope], wanted: Scope) -> bool:
    """Return True if these scopes include that scope."""
    return wanted in has or (wanted.endswith(":read") and f"{wanted.removesuffix('read')}write" in has)
