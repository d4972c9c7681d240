"""Wrong hits: what a cache serves that was the answer to another question, and how much of what it should serve.

Half of what is asked for is cached, in one wording; then all is asked for in all wordings. Five turns, each with
another wording in the cache and the other half, all families in one cache. What is asked for in the very words that
are cached is left out: that is no matter of likeness.
"""

import importlib.util
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.analogies import download, pairs
from bench.ends import Say
from bench.peers import gptcache_peer
from bench.report import Report, Row, report, row, skipped
from bench.vectors import KnownVectors, entries_served, lookup_of
from bench.wrong_hits_foreign import measure_foreign
from bench.wrong_hits_held_out import free, left_out
from bench.wrong_hits_pairs import (
    CAPITALS,
    CITIES,
    CURRENCIES,
    PREAMBLE,
    STATES,
    Meaning,
    about_entities,
    swapped,
)
from headrace_schemas.errors import Unavailable
from headrace_workers.features.cache.measuring import upper_bound
from headrace_workers.features.cache.semantic.nearest import NearestQuestions
from headrace_workers.features.cache.semantic.questions import Known
from headrace_workers.features.cache.store.answers import Change

NAME = "wrong-hits"
THRESHOLDS = (0.70, 0.80, 0.90, 0.95, 0.99)
CURVE = (0.70, 0.75, 0.80, 0.85, 0.90)
LEAST = 0.80  # headrace's own threshold, before a scope has shown its own
PLAIN = f"cosine ≥ {LEAST:.2f}"
OURS = f"{PLAIN} and guards"
_CAUTIOUS = 0.90  # what headrace might begin with instead
_SCOPE = "bench"
_QUICK = 6  # meanings of a kind


class Turn(NamedTuple):
    """What is in the cache, and what is asked: the text, and the place of what it asks for among the meanings."""

    cached: Mapping[str, int]
    asked: Mapping[str, int]


class Look(NamedTuple):
    """A look-up: what was asked for, whether that was cached, and what was served."""

    asked: int
    should: bool
    served: int | None


Method = Callable[[Turn, KnownVectors], Iterable[int | None]]


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """About 50,000 look-ups, half of them behind a preamble; no service is needed, so `embedded` changes nothing."""
    from headrace_schemas.aliases import DEFAULT_EMBEDDER
    from headrace_workers.models.embedders.load_embedder import load_embedder
    from headrace_workers.models.pull import pull

    meanings, missing = _meanings(say)
    if quick:
        kinds = dict.fromkeys(meaning.kind for meaning in meanings)
        meanings = [meaning for kind in kinds for meaning in [m for m in meanings if m.kind == kind][:_QUICK]]
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        pull(DEFAULT_EMBEDDER, Path(folder), "int8")
        embedder = load_embedder(Path(folder), DEFAULT_EMBEDDER)
        rows = measure_foreign(embedder.embed, LEAST, say)
        rows += measure(meanings, embedder.embed, say)
        for name, held_out in (("questions as people type them", free()), ("kinds of swaps left out", left_out())):
            rows += curve(name, held_out[: 3 * _QUICK] if quick else held_out, embedder.embed, say)
    if not importlib.util.find_spec("gptcache"):
        missing.append(skipped("GPTCache", "it is not installed"))
    return report(NAME, f"{embedder.id}, no service", rows + missing)


def measure(meanings: Sequence[Meaning], embed: Callable[[list[str]], NDArray[np.float32]], say: Say) -> list[Row]:
    """All methods, without and with a preamble; and by kind, both together."""
    rows = []
    methods = _methods()
    all_looks: dict[str, list[Look]] = {name: [] for name in methods}
    for where, preamble in (("alone", ""), ("behind 40 shared words", PREAMBLE)):
        said = [replace(meaning, wordings=tuple(preamble + text for text in meaning.wordings)) for meaning in meanings]
        texts = [text for meaning in said for text in meaning.wordings]
        say(f"{where}: {len(texts):,} questions are embedded")
        vectors = KnownVectors(dict(zip(texts, embed(texts), strict=True)))
        for name, method in methods.items():
            say(f"{where}: {name}")
            looks = list(looked_up(said, vectors, method, most=1 if method is gptcache else None))
            rows += _in_all(f"{name}, {where}", looks, said, ours=name == OURS)
            all_looks[name] += looks
    for kind in dict.fromkeys(meaning.kind for meaning in meanings):
        of_kind = {
            name: [look for look in looks if meanings[look.asked].kind == kind] for name, looks in all_looks.items()
        }
        rows += _of_kind(kind, of_kind[OURS], of_kind[PLAIN], meanings)
    return rows


def curve(
    name: str, meanings: Sequence[Meaning], embed: Callable[[list[str]], NDArray[np.float32]], say: Say
) -> list[Row]:
    """What guards serve at several thresholds, and a cosine alone, of questions that nobody developed guards on."""
    texts = [text for meaning in meanings for text in meaning.wordings]
    say(f"{name}: {len(texts):,} questions are embedded")
    vectors = KnownVectors(dict(zip(texts, embed(texts), strict=True)))
    rows = []
    for least in CURVE:
        for what, method in (("and guards", guarded(least)), ("alone", cosine(least))):
            looks = list(looked_up(meanings, vectors, method))
            wrong, served = sum(map(is_wrong, looks)), sum(look.served is not None for look in looks)
            said = f"held out, {name}, cosine ≥ {least:.2f} {what}"
            should = sum(look.should for look in looks)
            rows += [
                row(f"{said}: should-hits served, of {should:,}", _hits(looks), "share"),
                row(f"{said}: wrong of {served:,} served", _share(wrong, served), "share"),
                row(f"{said}: wrong of served, upper bound", upper(looks, meanings, of_served=True), "share"),
            ]
    return rows


def turns(meanings: Sequence[Meaning]) -> Iterator[Turn]:
    """As many as there are wordings of the question that has most; one with fewer begins again with its first."""
    for number in range(max(len(meaning.wordings) for meaning in meanings)):
        cached = {
            meaning.wordings[number % len(meaning.wordings)]: place
            for place, meaning in enumerate(meanings)
            if (meaning.half + number) % 2 == 0
        }
        asked = {
            text: place for place, meaning in enumerate(meanings) for text in meaning.wordings if text not in cached
        }
        yield Turn(cached, asked)


def looked_up(
    meanings: Sequence[Meaning], vectors: KnownVectors, method: Method, most: int | None = None
) -> Iterator[Look]:
    """Every look-up of every turn, or of the first `most`."""
    for turn in islice(turns(meanings), most):
        inside = set(turn.cached.values())
        for place, served in zip(turn.asked.values(), method(turn, vectors), strict=True):
            yield Look(place, place in inside, served)


def cosine(least: float) -> Method:
    """The nearest of all, if its cosine is `least` or more."""

    def serve(turn: Turn, vectors: KnownVectors) -> Iterator[int | None]:
        places = list(turn.cached.values())
        alike = vectors.embed(list(turn.asked)) @ vectors.embed(list(turn.cached)).T
        for nearest, similarity in zip(alike.argmax(axis=1).tolist(), alike.max(axis=1).tolist(), strict=True):
            yield places[nearest] if similarity >= least else None

    return serve


def guarded(least: float) -> Method:
    """What a recall worker does: the nearest whom no guard refuses, if its cosine is `least` or more."""

    def serve(turn: Turn, vectors: KnownVectors) -> Iterator[int | None]:
        known = Known(vectors.dimensions)
        known.apply(
            [
                Change(number, _SCOPE, text, vectors.embed([text])[0].tobytes())
                for number, text in enumerate(turn.cached)
            ]
        )
        places = list(turn.cached.values())
        likeness = NearestQuestions(vectors, known, least)
        for entry_id in entries_served(likeness, [lookup_of(text, _SCOPE) for text in turn.asked]):
            yield None if entry_id is None else places[entry_id]

    return serve


def upper(looks: Sequence[Look], meanings: Sequence[Meaning], *, of_served: bool) -> float:
    """Up to where the share of wrong answers may go, of the served or of all, at 95 %, one-sided. See `upper_bound`."""
    wrong: dict[str, int] = defaultdict(int)
    of: dict[str, int] = defaultdict(int)
    for look in looks:
        cluster = f"{meanings[look.asked].kind} {meanings[look.asked].cluster}"
        of[cluster] += look.served is not None if of_served else 1
        wrong[cluster] += is_wrong(look)
    return upper_bound([(wrong[text], of[text]) for text in of])


def is_wrong(look: Look) -> bool:
    """Whether it served the answer to another question."""
    return look.served is not None and look.served != look.asked


def gptcache(turn: Turn, vectors: KnownVectors) -> Iterator[int | None]:
    """What GPTCache does with the same vectors."""
    return gptcache_peer.served(turn.cached, list(turn.asked), vectors)


def _methods() -> dict[str, Method]:
    methods: dict[str, Method] = {f"cosine ≥ {least:.2f}": cosine(least) for least in THRESHOLDS}
    if importlib.util.find_spec("gptcache"):
        methods[f"GPTCache {gptcache_peer.VERSION}, one turn of five"] = gptcache  # it takes 5 ms a look-up
    return {**methods, OURS: guarded(LEAST), f"cosine ≥ {_CAUTIOUS:.2f} and guards": guarded(_CAUTIOUS)}


def _in_all(name: str, looks: Sequence[Look], meanings: Sequence[Meaning], *, ours: bool) -> list[Row]:
    wrong, served = sum(map(is_wrong, looks)), sum(look.served is not None for look in looks)
    bound = 0.01 if ours else None
    return [
        row(f"{name}: should-hits served, of {sum(look.should for look in looks):,}", _hits(looks), "share",
            at_least=0.8 if ours else None),
        row(f"{name}: wrong of {served:,} served", _share(wrong, served), "share"),
        row(f"{name}: wrong of served, upper bound", upper(looks, meanings, of_served=True), "share", at_most=bound),
        row(f"{name}: wrong of all {len(looks):,} look-ups", _share(wrong, len(looks)), "share"),
        row(f"{name}: wrong of all, upper bound", upper(looks, meanings, of_served=False), "share"),
    ]  # fmt: skip


def _of_kind(kind: str, mine: Sequence[Look], plain: Sequence[Look], meanings: Sequence[Meaning]) -> list[Row]:
    wrong, served = sum(map(is_wrong, mine)), sum(look.served is not None for look in mine)
    plainly = sum(look.served is not None for look in plain)
    return [
        row(f"{kind}, {PLAIN}: wrong of {plainly:,} served", _share(sum(map(is_wrong, plain)), plainly), "share"),
        row(f"{kind}, {OURS}: should-hits served, of {sum(look.should for look in mine):,}", _hits(mine), "share"),
        row(f"{kind}, {OURS}: wrong of {served:,} served", _share(wrong, served), "share"),
        row(f"{kind}, {OURS}: wrong of served, upper bound", upper(mine, meanings, of_served=True), "share"),
    ]


def _hits(looks: Sequence[Look]) -> float | None:
    should = [look for look in looks if look.should]
    return _share(sum(look.served == look.asked for look in should), len(should))


def _share(part: int, whole: int) -> float | None:
    return part / whole if whole else None


def _meanings(say: Say) -> tuple[list[Meaning], list[Row]]:
    try:
        say("questions-words.txt is taken from the wheel of gensim")
        text = download()
    except Unavailable as error:
        return swapped(), [skipped("capitals, currencies, states", str(error))]
    country_of = pairs(text, "capital-world")
    return [
        *about_entities("capital", list(dict.fromkeys(country_of.values())), CAPITALS),
        *about_entities("capital", list(country_of), CITIES),
        *about_entities("currency", list(pairs(text, "currency")), CURRENCIES),
        *about_entities("state", list(pairs(text, "city-in-state")), STATES),
        *swapped(),
    ], []
