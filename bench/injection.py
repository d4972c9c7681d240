"""Prompt injection: what the patterns and the head that ships find in sets that others wrote, direct attacks and
jailbreaks apart from orders in retrieved passages, and what they object to in ordinary texts, in traps, and in honest
work: mails, questions about code, and texts with words of attacks.

None of the packages here taught the head, nor did a text that is like their attacks (`tools/injection_head.py`).
"""

import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from bench.ends import Say
from bench.foreign_attacks import Item, attacks, honest_work, traps
from bench.foreign_texts import everyday, tasks
from bench.kept import FOLDER, KeptVectors
from bench.moderation import estimated
from bench.report import Report, Row, report
from headrace_workers.features.knowledge.suspicious import suspicions
from headrace_workers.features.moderation.detector import Detector
from headrace_workers.features.moderation.head import SCORE_FLOOR
from headrace_workers.features.moderation.injection import InjectionDetector, InjectionHeadDetector, injection_head
from headrace_workers.stats.detection_rates import share

NAME = "injection"
_QUICK: Final = 10  # every so many text
_MOST: Final = {"ordinary": 0.02, "mail": 0.05, "about_mail": 0.05}  # that may be objected to, by kind


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """Foreign sets by the patterns, the head without its embedder and with it, and both. No service is needed."""
    from headrace_schemas.aliases import DEFAULT_EMBEDDER
    from headrace_workers.models.embedders.load_embedder import load_embedder
    from headrace_workers.models.pull import pull

    found = list(dict.fromkeys([*attacks(), *traps(), *honest_work(), *_harmless()]))
    items = found[::_QUICK] if quick else found
    with tempfile.TemporaryDirectory() as folder:
        pull(DEFAULT_EMBEDDER, Path(folder))
        embedder = KeptVectors(load_embedder(Path(folder), DEFAULT_EMBEDDER), FOLDER, say)
        patterns = _flagged(InjectionDetector(suspicions), items)
        words = _flagged(InjectionHeadDetector(injection_head(), None), items)
        head = _flagged(InjectionHeadDetector(injection_head(), embedder), items)
    kinds = np.array([item.kind for item in items])
    rows: list[Row] = []
    for name, flagged in (
        ("patterns", patterns),
        ("patterns and words", patterns | words),
        ("head", head),
        ("both", patterns | head),
    ):
        rows += _rows(name, flagged, kinds, bound=name == "both")
    return report(NAME, f"{embedder.id}, no service", rows)


def _harmless() -> Iterator[Item]:
    yield from (Item(text, "ordinary") for text in everyday(1_000))
    yield from (Item(text, "task") for text in tasks())


def _rows(name: str, flagged: NDArray[np.bool_], kinds: NDArray[np.str_], *, bound: bool) -> Iterator[Row]:
    for kind, words in (
        ("direct", "injections and jailbreaks found"),
        ("indirect", "injections in passages found"),
        ("ordinary", "ordinary texts objected to"),
        ("task", "tasks for models objected to"),
        ("trap", "texts that only look like it objected to"),
        ("mail", "clean mails as passages objected to"),
        ("about_mail", "tasks about a clean mail objected to"),
        ("order", "mails with an order inside found"),
        ("code", "questions about code objected to"),
        ("notinject", "NotInject's texts objected to"),
    ):
        of_it = flagged[kinds == kind]
        least = 0.6 if bound and kind == "direct" else None
        most = _MOST.get(kind) if bound else None
        yield estimated(f"{name}: {words}, of {len(of_it)}", share(of_it), at_least=least, at_most=most)


def _flagged(detector: Detector, items: Sequence[Item]) -> NDArray[np.bool_]:
    found = detector.detect([item.text for item in items])
    return np.array([any(detection.score >= SCORE_FLOOR for detection in own) for own in found], dtype=np.bool_)
