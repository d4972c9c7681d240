"""The relevance floor: everyday questions that it lets through, and real questions that it loses, on foreign data.

The bases are Python's documentation: 600 and 10,000 passages, the answers of its FAQ among them. The questions of the
FAQ are the real ones; their headings, which ask the same, are not indexed. The everyday questions are of two packages
that nobody here wrote. The floor is read from each base by other questions, which we wrote.
"""

import json
import re
import tempfile
from collections.abc import Sequence
from math import sqrt
from pathlib import Path
from random import Random
from typing import Final

import numpy as np

from bench.ends import Say
from bench.foreign_packages import wheel
from bench.kept import FOLDER, KeptVectors
from bench.report import Report, Row, report, row
from bench.retrieval import by_faq, documentation, indexed, read
from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_workers.features.knowledge.chunking import SIZE, Chunk, chunk
from headrace_workers.features.knowledge.passages import Passages
from headrace_workers.features.knowledge.relevance_floor import LEAST, embedded_questions
from headrace_workers.models.embedders.load_embedder import load_embedder
from headrace_workers.models.pull import pull

NAME = "relevance-floor"
SIZES: Final = (600, 10_000)
_LET_THROUGH: Final = 0.05
_LOST: Final = 0.1
_FAQ: Final = "faq/"
_EACH_HALF: Final = 2  # the pages that the retrieval bench reads first, then the others
# Of the corpus's files, those that a base about software may answer are left out.
_ABOUT_COMPUTERS: Final = frozenset(("ai", "botprofile", "computers"))
_ASKS: Final = re.compile(r"(?i)^- - ['\"]?(.*\?|(?:what|who|how|why|when|where|which|do|does|is|are|can)\b.*)$")
_LEAST_WORDS: Final = 3
# Of the policies, those about software are left out.
_ABOUT_SOFTWARE: Final = frozenset(("ai_safety", "saas", "cybersecurity"))


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """Both bases; no service is needed, so `embedded` changes nothing."""
    home = documentation(say)
    with tempfile.TemporaryDirectory(prefix="headrace-bench-") as folder:
        pull(DEFAULT_EMBEDDER, Path(folder), "int8")
        plain = load_embedder(Path(folder), DEFAULT_EMBEDDER)
        embedder = KeptVectors(plain, FOLDER, say)
        say("the pages are read and cut")
        first = read(home, _EACH_HALF)
        known = {page.name for page in first}
        pages = first if quick else [*first, *(page for page in read(home, 1) if page.name not in known)]
        chunks = [item for page in pages for item in chunk(page, plain.count_tokens, SIZE)]
        passages, sought = by_faq(home, chunks, plain.count_tokens)
        rows: list[Row] = []
        for size in SIZES[:1] if quick else SIZES:
            base = indexed(drawn(passages, size), embedder)
            rows += measured(base, embedder, sorted(sought.right))
    return report(NAME, f"{plain.id}, no service", rows)


def drawn(passages: Sequence[Chunk], size: int) -> list[Chunk]:
    """The answers of the FAQ, and as many others as the base has room for: the first of them, or some of those."""
    answers = [passage for passage in passages if passage.document.startswith(_FAQ)]
    others = [passage for passage in passages if not passage.document.startswith(_FAQ)][: max(SIZES) - len(answers)]
    chosen = sorted(Random(0).sample(range(len(others)), min(len(others), size - len(answers))))
    return [*answers, *(others[place] for place in chosen)]  # a document's passages stay together


def measured(base: Passages, embedder: KeptVectors, real: Sequence[str]) -> list[Row]:
    """What the floor that fits lets through and loses, beside the least floor."""
    rows: list[Row] = []
    fitting = base.floor(lambda: embedded_questions(embedder))
    of = f"{len(base):,} passages"
    rows.append(row(f"{of}: the floor that fits", fitting, ""))
    foreign = {name: base.nearest(embedder.embed(asked)) for name, asked in everyday_questions().items()}
    near = base.nearest(embedder.embed(real))
    every = np.concatenate(list(foreign.values()))
    for floor, bound in ((fitting, True), (LEAST, False)):
        told = f"{of}, floor {floor:g}"
        for name, nearest in foreign.items():
            rows.append(_share(f"{told}: everyday questions let through, {name}", nearest >= floor))
        rows.append(_share(f"{told}: everyday questions let through", every >= floor, _LET_THROUGH if bound else None))
        rows.append(_share(f"{told}: real questions lost", near < floor, _LOST if bound else None))
    return rows


def _share(metric: str, flags: "np.ndarray[tuple[int], np.dtype[np.bool_]]", at_most: float | None = None) -> Row:
    """A share with its 95 % interval (Wilson)."""
    n, share, z = len(flags), float(flags.mean()), 1.96
    middle, half = share + z * z / (2 * n), z * sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    low, high = (middle - half) / (1 + z * z / n), (middle + half) / (1 + z * z / n)
    return row(f"{metric} (n = {n}, {max(0.0, low):.3f} to {high:.3f})", share, "share", at_most=at_most)


def everyday_questions() -> dict[str, list[str]]:
    """Questions of `chatterbot-corpus` (small talk and trivia) and of `contradish` (customers), each once."""
    talk = wheel("chatterbot-corpus==1.2.2") / "chatterbot_corpus/data/english"
    files = [file for file in sorted(talk.glob("*.yml")) if file.stem not in _ABOUT_COMPUTERS]
    lines = [line for file in files for line in file.read_text(encoding="utf-8").splitlines()]
    asked = [match.group(1).strip(" '\"") for line in lines if (match := _ASKS.match(line))]
    policies = sorted((wheel("contradish==1.34.0") / "contradish/benchmarks/v2").glob("*.json"))
    cases = [
        case["original"]
        for file in policies
        if file.stem not in _ABOUT_SOFTWARE
        for case in json.loads(file.read_text(encoding="utf-8"))["cases"]
    ]
    return {
        "small talk and trivia": [item for item in dict.fromkeys(asked) if len(item.split()) >= _LEAST_WORDS],
        "customers": list(dict.fromkeys(cases)),
    }
