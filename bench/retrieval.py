"""Retrieval: what is found in Python's documentation by words, by vectors, and fused, and how fast.

Two kinds of questions. Entries of the index that people made lead to pages: one half of them is there to choose the
fusion's weight, the other is reported. And the questions of the FAQ lead to their answers, whose headings, which ask
the same, are not indexed: they are sentences, and no weight was chosen by them.
"""

import hashlib
import subprocess
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from random import Random
from statistics import mean
from types import SimpleNamespace
from typing import NamedTuple

from bench.ends import Say
from bench.genindex import HOME, questions
from bench.kept import FOLDER, KeptVectors
from bench.report import Report, Row, percentile, report, row
from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_schemas.errors import Unavailable
from headrace_workers.features.knowledge.chunking import SEPARATOR, SIZE, Chunk, chunk
from headrace_workers.features.knowledge.documents import Document
from headrace_workers.features.knowledge.passages import DEPTH, VECTORS, WORDS, Passages, fuse
from headrace_workers.features.knowledge.reading import Reader, load
from headrace_workers.features.knowledge.retrieval_quality import ndcg, recall
from headrace_workers.models.embedders.load_embedder import load_embedder
from headrace_workers.models.pull import pull

NAME = "retrieval"
PACKAGE = "python3.13-doc"
WEIGHTS = (0.3, 0.4, 0.5, 0.6, 0.7)  # of the words, that are tried on the half that is there for it
_NOT_PAGES = ("genindex", "py-modindex", "search", "404")
_FAQ = "faq/"
_PARTS = 2  # every second page: all would take eight minutes of CPU to embed
_QUICK_PARTS = 16
_QUESTIONS = 2_000
_PASSAGES = 50  # that are looked at for ten pages
_RECIPROCAL = 60  # k of reciprocal rank fusion, as its paper has it

Keys = Sequence[str]  # what is found, best first: pages, or sections of them


class Sought(NamedTuple):
    """Questions, with what is right for each."""

    right: Mapping[str, frozenset[str]]
    key: Callable[[Chunk], str]

    def quality(self, ranked: Callable[[str], Sequence[Chunk]]) -> tuple[float, float]:
        """nDCG@10 and recall@10, as means."""
        found = {question: [self.key(item) for item in ranked(question)] for question in self.right}
        return (
            mean(ndcg(found[question], right) for question, right in self.right.items()),
            mean(recall(found[question], right) for question, right in self.right.items()),
        )


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """Every second page of the documentation; no service is needed, so `embedded` changes nothing."""
    home = documentation(say)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        pull(DEFAULT_EMBEDDER, Path(folder), "int8")
        plain = load_embedder(Path(folder), DEFAULT_EMBEDDER)
        embedder = KeptVectors(plain, FOLDER, say)
        say("the pages are read and cut")
        pages = read(home, _QUICK_PARTS if quick else _PARTS)
        chunks = [item for page in pages for item in chunk(page, plain.count_tokens, SIZE)]
        base = indexed(chunks, embedder)
        entries = by_index(home, {page.name for page in pages}, 100 if quick else _QUESTIONS)
        embedder.embed(sorted(entries))
        chosen, reported = halves(entries, _page_of)
        say(f"{len(entries):,} entries of the index are asked for, in two halves")
        rows = _chosen(base, chosen)
        rows += compared(f"{len(reported.right):,} entries of the index", base, reported, bound=True)
        say("the questions of the FAQ are asked")
        with_faq, asked = by_faq(home, chunks, plain.count_tokens)
        embedder.embed(sorted(asked.right))
        rows += compared(f"{len(asked.right):,} questions of the FAQ", indexed(with_faq, embedder), asked, bound=False)
        say("the same, timed, with the embedding of each question")
        rows += timed(chunks, embedder, plain, [*reported.right][: 50 if quick else 500])
    rows.append(row(f"passages, of {len(pages)} pages", len(chunks), "passages"))
    return report(NAME, f"{PACKAGE}, {plain.id}, no service", rows)


def documentation(say: Say) -> Path:
    """Its folder: where the package is installed, else unpacked beside the vectors. Unavailable without either."""
    if HOME.is_dir():
        return HOME
    unpacked = FOLDER / PACKAGE
    inside = unpacked / HOME.relative_to("/")
    if inside.is_dir():
        return inside
    say(f"{PACKAGE} is downloaded with apt-get")
    with tempfile.TemporaryDirectory(prefix="headrace-bench-doc-") as folder:
        _call(["apt-get", "download", PACKAGE], Path(folder))
        (archive,) = Path(folder).glob("*.deb")
        unpacked.mkdir(parents=True, exist_ok=True)
        _call(["dpkg-deb", "--extract", str(archive), str(unpacked.resolve())], Path(folder))
    if not inside.is_dir():
        raise Unavailable(f"{PACKAGE} holds no {HOME}")
    return inside


def read(home: Path, parts: int) -> list[Document]:
    """One of so many parts of the pages, by the hash of their names: which part does not depend on what they say."""
    names = [str(path.relative_to(home)) for path in sorted(home.rglob("*.html"))]
    wanted = [name for name in names if not Path(name).name.startswith(_NOT_PAGES) and _part(name, parts) == 0]
    with Reader() as reader:
        return [reader.read(load(home / name, name)) for name in wanted]


def by_index(home: Path, pages: set[str], most: int) -> dict[str, frozenset[str]]:
    """Entries of the index, drawn, all whose pages are there."""
    there = {question: frozenset(right) for question, right in questions(home).items() if right <= pages}
    return {question: there[question] for question in Random(0).sample(sorted(there), min(most, len(there)))}


def halves(entries: Mapping[str, frozenset[str]], key: Callable[[Chunk], str]) -> tuple[Sought, Sought]:
    """One to choose by, one to report."""
    drawn = list(entries.items())
    return Sought(dict(drawn[::2]), key), Sought(dict(drawn[1::2]), key)


def by_faq(home: Path, chunks: Sequence[Chunk], count: Callable[[str], int]) -> tuple[list[Chunk], Sought]:
    """The passages with those of the FAQ, without the headings that ask; and these."""
    others = [item for item in chunks if not item.document.startswith(_FAQ)]
    answers, right = [], {}
    with Reader() as reader:
        for path in sorted((home / _FAQ).glob("*.html")):
            name = str(path.relative_to(home))
            for row in chunk(reader.read(load(path, name)), count, SIZE):
                asked = row.section.rpartition(SEPARATOR)[2]
                body = "\n".join(line for line in row.text.splitlines() if not line.startswith("#")).strip()
                if asked.endswith("?") and body:
                    # Where it belongs is in its name, which is not indexed.
                    answers.append(replace(row, document=f"{name}#{asked}", section="", text=body))
                    right[asked] = frozenset({f"{name}#{asked}"})
    return [*others, *answers], Sought(right, _page_of)


def indexed(chunks: Sequence[Chunk], embedder: KeptVectors) -> Passages:
    """The passages, as a worker holds them; the ledger's rows are made here."""
    documents = {name: number for number, name in enumerate(dict.fromkeys(item.document for item in chunks))}
    vectors = embedder.embed([item.indexed for item in chunks])
    return Passages(
        (
            SimpleNamespace(
                id=number, key=item.id, document=item.document, document_id=documents[item.document], sha256="",
                section=item.section, start=item.span[0], stop=item.span[1], text=item.text, embedder=embedder.id,
                vector=vector.tobytes(), terms=None, attributes="{}", added_at=0,
            )
            for number, (item, vector) in enumerate(zip(chunks, vectors, strict=True))
        ),
        embedder,
    )  # fmt: skip


def compared(name: str, base: Passages, sought: Sought, *, bound: bool) -> list[Row]:
    """Words, vectors, reciprocal ranks and ours, on the same questions."""
    legs = {question: base.legs(question, DEPTH) for question in sought.right}

    def leg(which: str) -> Callable[[str], list[Chunk]]:
        return lambda question: [base.chunk(id_) for id_, _ in legs[question][which].found]

    def reciprocal(question: str) -> list[Chunk]:
        scores: dict[str, float] = {}
        for item in legs[question].values():
            for rank, (id_, _) in enumerate(item.found, start=1):
                scores[id_] = scores.get(id_, 0.0) + 1 / (_RECIPROCAL + rank)
        return [base.chunk(id_) for id_ in sorted(scores, key=lambda id_: (-scores[id_], id_))]

    ways: dict[str, Callable[[str], Sequence[Chunk]]] = {
        "BM25": leg(WORDS),
        "vectors": leg(VECTORS),
        "reciprocal ranks": reciprocal,
        "headrace": lambda question: [hit.chunk for hit in base.search(question, _PASSAGES)],
    }
    found = {way: sought.quality(ranked) for way, ranked in ways.items()}
    best = tuple(max(found["BM25"][place], found["vectors"][place]) for place in (0, 1))
    rows = []
    for way, (gain, there) in found.items():
        ours = bound and way == "headrace"
        rows += [
            row(f"{name}, {way}: nDCG@10", gain, "", at_least=best[0] if ours else None),
            row(f"{name}, {way}: recall@10", there, "share", at_least=best[1] if ours else None),
        ]
    return rows


def timed(chunks: Sequence[Chunk], kept: KeptVectors, plain: object, asked: Sequence[str]) -> list[Row]:
    """Searches for ten passages one after the other: the whole, and without the embedder."""
    base = indexed(chunks, kept)
    vectors = kept.embed(asked)
    took: dict[str, list[float]] = {"with the embedding": [], "without": []}
    for question, vector in zip(asked, vectors, strict=True):
        begun = time.perf_counter()
        fresh = plain.embed([question])[0]  # type: ignore[attr-defined]
        base.search(question, 10, fresh)
        took["with the embedding"].append(time.perf_counter() - begun)
        begun = time.perf_counter()
        base.search(question, 10, vector)
        took["without"].append(time.perf_counter() - begun)
    rows = []
    for name, seconds in took.items():
        of = f"searches {name}, {len(seconds):,} one after the other"
        rows += [
            row(f"{of}: rate", len(seconds) / sum(seconds), "queries/s"),
            row(f"{of}: p50", 1000 * percentile(seconds, 50), "ms"),
            row(f"{of}: p99", 1000 * percentile(seconds, 99), "ms"),
        ]
    return rows


def _chosen(base: Passages, sought: Sought) -> list[Row]:
    """What each weight comes to on the half that is there to choose by."""
    legs = {question: base.legs(question, DEPTH) for question in sought.right}
    rows = []
    for weight in WEIGHTS:
        weights = {WORDS: weight, VECTORS: 1 - weight}

        def ranked(question: str, weights: Mapping[str, float] = weights) -> list[Chunk]:
            return [base.chunk(fused.id) for fused in fuse(legs[question], weights)]

        gain, _ = sought.quality(ranked)
        rows.append(row(f"the other {len(sought.right):,} entries, words weigh {weight:g}: nDCG@10", gain))
    return rows


def _page_of(chunk: Chunk) -> str:
    return chunk.document


def _part(name: str, parts: int) -> int:
    return int(hashlib.sha256(name.encode()).hexdigest(), 16) % parts


def _call(command: list[str], folder: Path) -> None:
    try:
        done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    except OSError as error:
        raise Unavailable(f"{PACKAGE} cannot be had: {command[0]}: {error.strerror}") from error
    if done.returncode:
        raise Unavailable(f"{PACKAGE} cannot be had: {done.stderr.strip()[-300:]}")
