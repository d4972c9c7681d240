"""Look-ups: what the cache adds to the search of an index, to a query by primary key, and to an embedder."""

import hashlib
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import text as sql

from bench.ends import Say
from bench.report import Report, Row, percentile, report, row, skipped
from bench.services import Services, services
from bench.vectors import KnownVectors, clustered, entries_served, lookup_of, near
from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_workers.core.ledger.ledger import Ledger
from headrace_workers.features.cache.semantic.nearest import NearestQuestions, forget_read
from headrace_workers.features.cache.semantic.questions import Known
from headrace_workers.features.cache.store.answers import Answers, Change
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.models.embedders.load_embedder import load_embedder
from headrace_workers.models.pull import pull
from headrace_workers.models.vectors.nearest import Lists, faiss
from headrace_workers.models.vectors.vector_index import DEFAULTS

NAME = "lookup"
_DIMENSIONS = 384
LEAST = 0.90
_NEIGHBOURS = 5
_CANDIDATES = 50  # that a bare search of lists compares exactly, as headrace does
_QUERY_BITS = 4
_WARM_UP = 50
_TAKEN_IN = 10_000  # entries at once
_SCOPE = "bench"

_NOUNS = ("lamp", "boiler", "printer", "heater", "router", "lift", "pump", "oven", "drill", "camera", "kettle", "radio")
_PLACES = ("cellar", "kitchen", "hall", "attic", "garage", "office", "library", "workshop", "garden", "lobby")
_OPENING = "How do I repair"
# The first differs in a phrase that says the same; the second in a word, which guards are asked about.
_ASKED = ("What is the way to repair", "How can I fix")
_ASKED_BEFORE = ("How can I repair", "What is the way to fix")
_COLOURS = ("red", "green", "white", "black", "grey", "brown", "yellow", "orange")

Timed = Callable[[int], object]  # one look-up, by its number


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """2,000 look-ups of each sort at 10,000 and 100,000 entries, in turns with what they are compared to."""
    sizes, count = ((500, 2_000), 60) if quick else ((10_000, 100_000), 2_000)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        pull(DEFAULT_EMBEDDER, Path(folder), "int8")
        embedder = load_embedder(Path(folder), DEFAULT_EMBEDDER)
        rows = [found for size in sizes for found in by_likeness(size, count, embedder, say)]
    with services(embedded=embedded) as there:
        return report(NAME, there.stack, rows + exact(there, sizes[0], count, say))


def by_likeness(size: int, count: int, embedder: Embedder, say: Say) -> list[Row]:
    """Among `size` entries: against FAISS alone, and with the embedder against that alone."""
    say(f"{size:,} entries are taken in")
    vectors = clustered(size, _DIMENSIONS)
    known = Known(_DIMENSIONS)
    for start in range(0, size, _TAKEN_IN):
        numbers = range(start, min(size, start + _TAKEN_IN))
        known.apply([Change(number, _SCOPE, question(number), vectors[number].tobytes()) for number in numbers])
    known.compact()
    chosen = np.random.default_rng(2).integers(size, size=count)
    queries = near(vectors[chosen], 0.3, 3)
    asked, before = worded(chosen, *_ASKED), worded(chosen, *_ASKED_BEFORE)
    table = dict(zip([*asked[0], *asked[1], *before[0], *before[1]], [*queries] * 4, strict=True))
    likeness = NearestQuestions(KnownVectors(table), known, LEAST)
    whole = NearestQuestions(KnownVectors(table, first=embedder), known, LEAST)
    bare = faiss_alone(vectors)

    def look(by: NearestQuestions, texts: Sequence[str]) -> Timed:
        lookups = [lookup_of(text, _SCOPE) for text in texts]
        return lambda place: by.nearest([lookups[place]])

    say(f"{count:,} look-ups among {size:,} in two wordings, in turns with FAISS alone")
    sides = []
    for now, earlier in zip(asked, before, strict=True):
        _only_these_were_asked(likeness, earlier)
        sides.append(in_turns(look(likeness, now), lambda place: bare(queries[place : place + 1]), count))
    hits = [entries_served(likeness, [lookup_of(text, _SCOPE)]) != [None] for text in (*asked[0], *asked[1])]
    say(f"{sum(hits):,} of them were hits; the first, in turns with the embedder alone")
    _only_these_were_asked(likeness, before[0])
    with_it, embedding = in_turns(look(whole, asked[0]), lambda place: embedder.embed([asked[0][place]]), count)

    def embedded_and_bare(place: int) -> None:
        embedder.embed([asked[0][place]])
        bare(queries[place : place + 1])

    both, one = in_turns(embedded_and_bare, lambda place: embedder.embed([asked[0][place]]), count)
    of = f"of {count:,} among {size:,}"
    return [
        row(f"share of hits {of}", sum(hits) / len(hits), "share"),
        *_compared(f"look-up by likeness, {of}", f"FAISS alone, {of}", *sides[0], (1.5, 2.0)),
        *_compared(f"look-up with another word, {of}", f"FAISS alone beside it, {of}", *sides[1], (1.5, 2.0)),
        *_compared(f"look-up with embedding, {of}", f"embedder alone, {of}", with_it, embedding, (1.2, None)),
        # What no look-up can be faster than: the search's core has rested while the embedder's worked.
        row(
            f"embedder and FAISS alone, to embedder alone, {of}, p50",
            percentile(both, 50) / percentile(one, 50),
            "ratio",
        ),
    ]


def exact(there: Services, size: int, count: int, say: Say) -> list[Row]:
    """By the whole request, among `size` live entries of the ledger, against one row by its primary key."""
    if there.postgres is None:
        return [skipped("exact look-up", "there is no PostgreSQL")]
    say(f"{count:,} exact look-ups among {size:,}, in turns with a query by primary key")
    url = there.new_ledger()
    ledger = Ledger.at(url)
    try:
        _fill(ledger, size)
        chosen = np.random.default_rng(4).integers(size, size=count).tolist()
        with _by_primary_key(url) as select:
            ours, alone = in_turns(
                lambda place: ledger.of(Answers).exact({_key(chosen[place])}),
                lambda place: select(chosen[place] + 1),
                count,
            )
    finally:
        ledger.close()
    of = f"of {count:,} among {size:,}"
    return _compared(f"exact look-up, {of}", f"psycopg by primary key, {of}", ours, alone, (1.5, None))


def faiss_alone(vectors: NDArray[np.float32], exact: int = DEFAULTS.exact) -> Callable[[NDArray[np.float32]], Any]:
    """FAISS's search of the same vectors by the same sort of index, with its own refinement; over `exact`, by lists.

    It gives distances or similarities, and positions.
    """
    library = faiss()
    if len(vectors) <= exact:
        flat = library.IndexFlatIP(vectors.shape[1])
        flat.add(vectors)
        return lambda query: flat.search(query, _NEIGHBOURS)
    rows = library.IndexFlatL2(vectors.shape[1])
    rows.add(vectors)
    lists = Lists.built(vectors).index
    refined = library.IndexRefine(lists, rows)
    parameters = library.IndexRefineSearchParameters(
        k_factor=_CANDIDATES / _NEIGHBOURS,
        base_index_params=library.IVFRaBitQSearchParameters(nprobe=lists.nprobe, qb=_QUERY_BITS),
    )
    return lambda query: refined.search(query, _NEIGHBOURS, params=parameters)


def in_turns(one: Timed, other: Timed, count: int) -> tuple[list[float], list[float]]:
    """Seconds that each took, one after the other, so that both sides see the same of the machine."""
    took: tuple[list[float], list[float]] = ([], [])
    for place in [*range(count - min(_WARM_UP, count), count), *range(count)]:
        for side, call in zip(took, (one, other), strict=True):
            begun = time.perf_counter()
            call(place)
            side.append(time.perf_counter() - begun)
    return took[0][-count:], took[1][-count:]


def question(number: int) -> str:
    """The question of an entry, no two alike."""
    thing, rest = divmod(number, len(_NOUNS))
    place, colour = _PLACES[thing % len(_PLACES)], _COLOURS[thing // len(_PLACES) % len(_COLOURS)]
    return f"{_OPENING} the {colour} {_NOUNS[rest]} number {number} in the {place}?"


def worded(numbers: NDArray[np.int64], *openings: str) -> list[list[str]]:
    """The same questions with another opening, as many lists as there are openings."""
    return [[question(int(number)).replace(_OPENING, opening) for number in numbers] for opening in openings]


def _only_these_were_asked(likeness: NearestQuestions, before: Sequence[str]) -> None:
    """What is known was near to something before, as most of what is served was; and what is asked next is new."""
    forget_read()
    for text in before:
        likeness.nearest([lookup_of(text, _SCOPE)])


def _compared(
    name: str, beside: str, ours: list[float], alone: list[float], most: tuple[float, float | None]
) -> list[Row]:
    rows = []
    for percent, bound in zip((50, 99), most, strict=True):
        mine, other = percentile(ours, percent), percentile(alone, percent)
        rows += [
            row(f"{name}, p{percent}", 1000 * mine, "ms"),
            row(f"{beside}, p{percent}", 1000 * other, "ms"),
            row(f"{name}, to {beside.partition(',')[0]}, p{percent}", mine / other, "ratio", at_most=bound),
        ]
    return rows


def _key(number: int) -> str:
    return hashlib.sha256(str(number).encode()).hexdigest()


def _fill(ledger: Ledger, size: int) -> None:
    """Live entries with the ids 1 to `size`."""
    rows = [{"number": number, "key": _key(number), "question": question(number)} for number in range(size)]
    with ledger.engine.begin() as connection:
        connection.execute(
            sql(
                "INSERT INTO entries (scope, key, tenant, state, job_id, lane, question, answer, made_at, expires_at)"
                " VALUES ('bench', :key, 'default', 'live', :number, 0, :question, :answer, 0, 99999999999999)"
            ),
            [{**entry, "number": str(entry["number"]), "answer": b"x" * 500} for entry in rows],
        )
    with ledger.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(sql("VACUUM ANALYZE entries"))


@contextmanager
def _by_primary_key(url: str) -> Iterator[Callable[[int], Any]]:
    import psycopg

    query = "SELECT id, key, job_id, question, answer, saved_ms, made_at FROM entries WHERE id = %s"
    with psycopg.connect(url.replace("+psycopg", ""), autocommit=True) as connection:
        yield lambda entry_id: connection.execute(query, (entry_id,)).fetchone()
