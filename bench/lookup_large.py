"""Look-ups by likeness among a million entries; and a million look-ups across tenants, none of which may hit."""

import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.ends import Say
from bench.lookup import LEAST, by_likeness, question
from bench.report import Report, Row, report, row
from bench.vectors import KnownVectors, clustered, entries_served, lookup_of
from headrace_schemas import GenerationJob
from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_workers.features.cache.semantic.lookup import Lookup
from headrace_workers.features.cache.semantic.nearest import NearestQuestions
from headrace_workers.features.cache.semantic.questions import Known
from headrace_workers.features.cache.semantic.scope import key_of, scope_of
from headrace_workers.features.cache.store.answers import Change
from headrace_workers.models.embedders.load_embedder import load_embedder
from headrace_workers.models.pull import pull

NAME = "lookup-large"
_DIMENSIONS = 384
_AT_ONCE = 64  # look-ups, as in a group
_MODEL = "echo/1"


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """1,000,000 entries, and as many look-ups across 500 tenants (20,000 and 5,000 across 20 when quick).

    Needs 8 GB of memory, and some minutes. No service is asked, so that `embedded` makes no difference.
    """
    size, count, tenants, lookups = (20_000, 60, 20, 5_000) if quick else (1_000_000, 2_000, 500, 1_000_000)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        pull(DEFAULT_EMBEDDER, Path(folder), "int8")
        rows = by_likeness(size, count, load_embedder(Path(folder), DEFAULT_EMBEDDER), say)
    return report(NAME, "memory alone", rows + across_tenants(tenants, lookups, say))


def across_tenants(tenants: int, lookups: int, say: Say) -> list[Row]:
    """Each tenant knows 100 questions, and asks the very words of the others', which have the very same vectors."""
    each = 100
    say(f"{tenants:,} tenants with {each} answers each; {lookups:,} look-ups of what others asked")
    texts = [question(number) for number in range(tenants * each)]
    vectors = clustered(len(texts), _DIMENSIONS)
    known = Known(_DIMENSIONS)
    likeness = NearestQuestions(KnownVectors(dict(zip(texts, vectors, strict=True))), known, LEAST)
    scopes = [scope_of(_job(tenant, texts[0]), _MODEL, likeness.embedder) for tenant in range(tenants)]
    for tenant, scope in enumerate(scopes):
        mine = range(tenant * each, (tenant + 1) * each)
        known.apply([Change(number, scope, texts[number], vectors[number].tobytes()) for number in mine])
    own = [lookup_of(texts[number], scopes[number // each]) for number in range(min(lookups, len(texts)))]
    others = 0
    for start in range(0, lookups, _AT_ONCE):
        numbers = range(start, min(lookups, start + _AT_ONCE))
        others += _hits(likeness, [lookup_of(texts[n % len(texts)], scopes[_asker(n, tenants, each)]) for n in numbers])
    same = len({key_of(_job(tenant, texts[0]), _MODEL) for tenant in range(tenants)})
    return [
        row(f"hits of {lookups:,} look-ups across {tenants:,} tenants", others, "hits", at_most=0),
        row("share of hits of the same look-ups by the tenant itself", _hits(likeness, own) / len(own), "share"),
        row(f"{tenants:,} tenants' very same request: those with a key of their own", same / tenants, "share",
            at_least=1.0),
    ]  # fmt: skip


def _asker(number: int, tenants: int, each: int) -> int:
    """A tenant that does not know the question of this number, another each time it comes round."""
    owner, turn = number % (tenants * each) // each, number // (tenants * each)
    return (owner + 1 + (number * 7 + turn) % (tenants - 1)) % tenants


def _hits(likeness: NearestQuestions, asked: Sequence[Lookup]) -> int:
    return sum(entry_id is not None for entry_id in entries_served(likeness, asked))


def _job(tenant: int, prompt: str) -> GenerationJob:
    return GenerationJob(model="echo", prompt=prompt, tenant=f"tenant-{tenant}", cache="semantic")
