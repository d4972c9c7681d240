"""Prompt injection: what the patterns and the head that ships find in sets that others wrote, direct attacks and
jailbreaks apart from orders in retrieved passages, and what they object to in ordinary texts and in traps.

None of the packages here taught the head (`tools/injection_head.py`). Attacks that share half of their words with a
text that did are left out, and counted.
"""

import json
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray
from tools.injection_head import examples

from bench.ends import Say
from bench.foreign_package import Package
from bench.foreign_texts import everyday
from bench.kept import FOLDER, KeptVectors
from bench.moderation import estimated
from bench.report import Report, Row, report, row
from headrace_workers.core.ports import Detector
from headrace_workers.features.knowledge.suspicious import suspicions
from headrace_workers.features.moderation.head import SCORE_FLOOR
from headrace_workers.features.moderation.injection import InjectionDetector
from headrace_workers.features.moderation.injection_head import InjectionHeadDetector, injection_head
from headrace_workers.features.moderation.siblings import families
from headrace_workers.features.quality.detection_rates import share

NAME = "injection"
SPIKEE: Final = Package(
    "spikee==0.9.2", "60cec774a1138e62b68b4bed445285f5b5103818ffb68fab681f37b5e707802b", "Apache-2.0"
)
AGENTS: Final = Package(
    "agent-injection-bench==0.1.0", "1c4339fc4e2cfcecf7971a96ab58d74ae124f5766b0a2162340fa6731c6ce9f9", "MIT"
)
CORPUS: Final = Package(
    "jailbreak-corpus-mini-py==0.1.0", "b336986c3028dffd3d31140456abc4062019cac3dbbeafa772b1df86986f5b8e", "MIT"
)
_SEEDS: Final = "spikee/data/workspace/datasets"
_QUICK: Final = 10  # every so many text


class Item(NamedTuple):
    """A text of a kind: `direct`, `indirect`, `ordinary` or `trap`."""

    text: str
    kind: str


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """Foreign sets by the patterns, the head without its embedder and with it, and both. No service is needed."""
    from headrace_schemas.aliases import DEFAULT_EMBEDDER
    from headrace_workers.features.generation.models.pull import pull
    from headrace_workers.features.knowledge.embedders.load_embedder import load_embedder

    found = list(dict.fromkeys([*_attacks(), *_traps(), *(Item(text, "ordinary") for text in everyday(1_000))]))
    items, seen = _unseen(found)
    items = items[::_QUICK] if quick else items
    with tempfile.TemporaryDirectory() as folder:
        pull(DEFAULT_EMBEDDER, Path(folder))
        embedder = KeptVectors(load_embedder(Path(folder), DEFAULT_EMBEDDER), FOLDER, say)
        patterns = _flagged(InjectionDetector(suspicions), items)
        words = _flagged(InjectionHeadDetector(injection_head(), None), items)
        head = _flagged(InjectionHeadDetector(injection_head(), embedder), items)
    kinds = np.array([item.kind for item in items])
    rows = [row("attacks left out, since a text that taught the head is like them", seen)]
    for name, flagged in (
        ("patterns", patterns),
        ("patterns and words", patterns | words),
        ("head", head),
        ("both", patterns | head),
    ):
        rows += _rows(name, flagged, kinds, bound=name == "both")
    return report(NAME, f"{embedder.id}, no service", rows)


def _rows(name: str, flagged: NDArray[np.bool_], kinds: NDArray[np.str_], *, bound: bool) -> Iterator[Row]:
    for kind, words in (
        ("direct", "injections and jailbreaks found"),
        ("indirect", "injections in passages found"),
        ("ordinary", "ordinary texts objected to"),
        ("trap", "texts that only look like it objected to"),
    ):
        of_it = flagged[kinds == kind]
        least = 0.6 if bound and kind == "direct" else None
        most = 0.02 if bound and kind == "ordinary" else None
        yield estimated(f"{name}: {words}, of {len(of_it)}", share(of_it), at_least=least, at_most=most)


def _flagged(detector: Detector, items: Sequence[Item]) -> NDArray[np.bool_]:
    found = detector.detect([item.text for item in items])
    return np.array([any(each.score >= SCORE_FLOOR for each in own) for own in found], dtype=np.bool_)


def _unseen(items: Sequence[Item]) -> tuple[list[Item], int]:
    """Return the texts that are no siblings of what taught the head, and how many attacks are."""
    taught = [each.text for each in examples()]
    first = families([*taught, *(item.text for item in items)])[len(taught) :]
    kept = [item for item, place in zip(items, first, strict=True) if place >= len(taught)]
    attacks = [sum(item.kind in ("direct", "indirect") for item in each) for each in (items, kept)]
    return kept, attacks[0] - attacks[1]


def _attacks() -> Iterator[Item]:
    for each in json.loads(CORPUS.read("jailbreak_corpus_mini/corpus.json")):
        yield Item(each["prompt"], "direct")
    for folder in ("seeds-cybersec-2026-01", "seeds-sysmsg-extraction-2025-04"):
        orders = [json.loads(line)["instruction"] for line in _lines(f"{folder}/instructions.jsonl")]
        for number, line in enumerate(_lines(f"{folder}/jailbreaks.jsonl")):
            each = json.loads(line)
            if each["jailbreak_type"] != "no-jailbreak":
                yield Item(each["text"].replace("<INSTRUCTION>", orders[number % len(orders)]), "direct")
    for line in AGENTS.read("aib/data/attacks.jsonl").splitlines():
        each = json.loads(line)
        yield Item(each["injected"], "indirect")


def _traps() -> Iterator[Item]:
    for line in _lines("seeds-investment-advice-fp/standalone_user_inputs.jsonl"):
        yield Item(json.loads(line)["text"], "trap")


def _lines(member: str) -> list[bytes]:
    return [line for line in SPIKEE.read(f"{_SEEDS}/{member}").splitlines() if line.strip()]
