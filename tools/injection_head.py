"""Train the head that finds prompt injection and jailbreaks: `make injection-head`.

The texts come from packages that are pinned by their digest. None of the packages is among those that `bench injection`
measures with, and texts that are like a measured one are left out. The order and choice of texts follow from their own
digests, so that two runs on one machine are alike.

Texts of one further package set the bias, and teach nothing: few of them reach a score of 0.5.
"""

import hashlib
import json
import re
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from bench.foreign_attacks import attacks, traps
from bench.foreign_texts import tasks
from bench.kept import FOLDER, KeptVectors
from numpy.typing import NDArray

from headrace_schemas.aliases import DEFAULT_EMBEDDER
from headrace_workers.features.moderation.head_training import STRENGTH, Example, families
from headrace_workers.features.moderation.injection import BUCKETS, CATEGORY, InjectionHead, buckets, packed
from headrace_workers.features.moderation.segments import segments
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.models.embedders.load_embedder import load_embedder
from headrace_workers.models.heads import fit_binary
from headrace_workers.models.pull import pull
from tools import attack_texts, ordinary_texts
from tools.attack_texts import Sourced

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

TARGET: Final = Path(__file__).parents[1] / "workers/headrace_workers/features/moderation/injection_head.json"
PACKAGES: Final = tuple(dict.fromkeys((*attack_texts.PACKAGES, *ordinary_texts.PACKAGES)))
_LONGEST: Final = 1_000  # characters, as the parts that a head reads
_MOST: Final = 500  # texts of one source
_OBJECTED: Final = 0.01  # of ordinary texts that taught nothing, at most
_OF_VECTOR: Final = 0.5  # of the words' share: left-out packages were found best so
_ATTACKS_OF: Final = ("prompt-armor", "bastioncorpus", "pyrit", "fas-judgement")  # each is left out once, for figures
_LIKE: Final = 0.25  # of its sequences of five words a text may share with measured ones
_WORD: Final = re.compile(r"\w+")


def examples() -> list[Example]:
    """Return the labelled texts that teach, each once, at most 500 of a source. None is like a text that measures."""
    by_source: dict[str, dict[str, Example]] = {}
    for injected, texts in ((True, attack_texts.attacks()), (False, ordinary_texts.ordinary())):
        for text in texts:
            found = _example(text, injected=injected)
            by_source.setdefault(found.source, {})[found.text] = found
    chosen: dict[str, Example] = {}
    for source in sorted(by_source):
        ordered = sorted(by_source[source].values(), key=lambda example: hashlib.sha256(example.text.encode()).digest())
        for sourced in ordered[:_MOST]:
            chosen.setdefault(sourced.text, sourced)
    left_out = like(list(chosen), [*(attack.text for attack in (*attacks(), *traps())), *tasks()])
    return [example for example in chosen.values() if example.text not in left_out]


def like(texts: Sequence[str], measured: Sequence[str]) -> set[str]:
    """Return the siblings of measured texts, and texts that share a quarter of their five-word sequences with them."""
    first = families([*measured, *texts])[len(measured) :]
    known = {five for text in measured for five in _fives(text)}
    return {
        text
        for text, place in zip(texts, first, strict=True)
        if place < len(measured) or len(known & (own := _fives(text))) > _LIKE * len(own)
    }


def _fives(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return {tuple(words[at : at + 5]) for at in range(len(words) - 4)}


def _example(each: Sourced, *, injected: bool) -> Example:
    text = each.text.replace("\0", " ").strip()[:_LONGEST] or "-"
    return Example(text=text, source=each.source, licence=each.package.licence,
                   labels={CATEGORY: True} if injected else {}, benign=not injected)  # fmt: skip


class Trainer:
    """The texts, their buckets and their vectors, from which heads are fitted."""

    def __init__(self, given: Sequence[Example], still: Sequence[str], embedder: Embedder) -> None:
        """Read `given`, which teach, and `still`, which set the bias."""
        self._positive = np.array([example.label(CATEGORY) is True for example in given])
        self._rows = _features([example.text for example in given])
        self.whole = np.array(
            [len(example.text) < _LONGEST for example in given]
        )  # a beginning has no vector of its own
        self._vectors = embedder.embed([example.text for example in given if len(example.text) < _LONGEST])
        parts = [[text[slice(*part)] for part in segments(text)] for text in still]
        self._calm = [part for own in parts for part in own]
        self._ends = np.cumsum([len(own) for own in parts])[:-1]
        self._embedder = embedder

    def head(self, kept: NDArray[np.bool_]) -> InjectionHead:
        """Fit a head to the texts that are `kept`.

        A text reaches what the highest of its parts reaches, as when it is screened.
        """
        from sklearn.linear_model import LogisticRegression  # here: tests of what teaches it train nothing

        words = LogisticRegression(C=STRENGTH, max_iter=1_000).fit(self._rows[kept], self._positive[kept]).coef_[0]
        weights, _ = fit_binary(self._vectors[kept[self.whole]], self._positive[kept & self.whole], STRENGTH)
        head = InjectionHead(
            words=words.astype(np.float32), vector=(_OF_VECTOR * weights).astype(np.float32),
            bias=0.0, bias_of_words=0.0, embedder=self._embedder.id,
        )  # fmt: skip
        of_words = head.of_words(self._calm)
        of_both = of_words + self._embedder.embed(self._calm) @ head.vector
        return replace(head, bias=-self._reached(of_both), bias_of_words=-self._reached(of_words))

    def _reached(self, logits: NDArray[np.float64]) -> float:
        highest = [own.max() for own in np.split(logits, self._ends)]
        return round(float(np.quantile(highest, 1 - _OBJECTED)), 6)

    def found(self, head: InjectionHead, asked: NDArray[np.bool_]) -> tuple[float, float]:
        """Return the share of texts that words alone reach, and words and vector together. Cut texts have no vector."""
        asked = asked & self.whole
        of_words = self._rows[asked] @ head.words
        of_both = of_words + self._vectors[asked[self.whole]] @ head.vector
        return float((of_words + head.bias_of_words >= 0).mean()), float((of_both + head.bias >= 0).mean())


def _features(texts: Sequence[str]) -> "csr_matrix":
    from scipy.sparse import csr_matrix

    found = [buckets(text) for text in texts]
    values = np.concatenate([np.full(len(own), max(1, len(own)) ** -0.5) for own in found])
    ends = np.cumsum([0, *map(len, found)])
    return csr_matrix((values, np.concatenate(found), ends), shape=(len(texts), BUCKETS))


def main() -> None:
    """Write the head, and say how much of each package a head finds that was trained without it and its siblings."""
    home = Path(sys.argv[1]) if len(sys.argv) > 1 else FOLDER / "injection-head"
    pull(DEFAULT_EMBEDDER, home)
    embedder = KeptVectors(load_embedder(home, DEFAULT_EMBEDDER), FOLDER, print)
    given, still = examples(), ordinary_texts.calm()
    print(f"{len(given):,} texts teach, {len(still):,} set the bias")
    trainer = Trainer(given, still, embedder)
    family = np.array(families([example.text for example in given]))
    attack = np.array([not example.benign for example in given])
    for package in _ATTACKS_OF:
        asked = attack & np.array([example.source.startswith(package) for example in given])
        head = trainer.head(~asked & ~np.isin(family, family[asked]))
        words, both = trainer.found(head, asked)
        print(f"{package}: {words:.0%} of {(asked & trainer.whole).sum():,} found by words, {both:.0%} with vectors")
    head = trainer.head(np.ones(len(given), dtype=np.bool_))
    said = {"sources": [{"package": row.pin, "sha256": row.sha256, "licence": row.licence} for row in PACKAGES]}
    TARGET.write_text(json.dumps(said | packed(head), indent=1) + "\n", encoding="utf-8")
    print(f"{TARGET}: {TARGET.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
