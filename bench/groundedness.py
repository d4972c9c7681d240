"""Groundedness: AUROC of a sentence's support by kind of change: cross-validated, by a fit without it, and held out."""

import tempfile
from collections.abc import Container, Sequence
from pathlib import Path
from time import process_time
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize

from bench.ends import Say
from bench.groundedness_texts import CONTRADICTION, HELD_OUT, HELD_OUT_2, SUPPORTED, TEXTS, Pair, pairs
from bench.report import Report, report, row
from headrace_workers.core.ports import Embedder
from headrace_workers.features.judging.groundedness.doubts import KINDS, Doubts, doubts
from headrace_workers.features.judging.groundedness.evidence import embedded, units
from headrace_workers.features.judging.groundedness.support import counted, evidence_features, support, worst

NAME = "groundedness"
# Kinds of change, and what is left out of the fit with each: who knows one kind of denial knows something of the other.
CHANGES: Final = {
    "number": {"number"},
    "name": {"name"},
    "negation": {"negation", CONTRADICTION},
    CONTRADICTION: {"negation", CONTRADICTION},
    "foreign": {"foreign"},
}
_FOLDS: Final = 6
_QUICK: Final = 60

Floats = NDArray[np.float64]


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """Our own documents with reworded sentences; no service is needed, so `embedded` changes nothing."""
    from headrace_schemas.aliases import DEFAULT_EMBEDDER
    from headrace_workers.features.generation.models.pull import pull
    from headrace_workers.features.knowledge.embedders.load_embedder import load_embedder

    with tempfile.TemporaryDirectory() as folder:
        say("getting the embedder")
        pull(DEFAULT_EMBEDDER, Path(folder))
        embedder = load_embedder(Path(folder), DEFAULT_EMBEDDER)
        ours, held_out = pairs(TEXTS), {"held out": pairs(HELD_OUT), "held out, hard": pairs(HELD_OUT_2)}
        if quick:
            ours, held_out = ours[: 8 * _QUICK], {of: found[:_QUICK] for of, found in held_out.items()}
        begun = process_time()
        found = measured(ours, embedder, say)
        cost = (process_time() - begun) / len(ours)
        others = {of: measured(texts, embedder, say) for of, texts in held_out.items()}
    rows = []
    scored = _cross_validated(ours, found)
    for change, left_out in CHANGES.items():
        rows.append(row(f"{change}: AUROC", _auroc_of(ours, scored, change), at_least=0.9))
        unseen = _cross_validated(ours, found, without=left_out)
        rows.append(row(f"{change}, left out of the fit: AUROC", _auroc_of(ours, unseen, change), at_least=0.85))
    for of, texts in held_out.items():
        probabilities = np.array([support(each).probability for each in others[of]])
        for change in [each for each in CHANGES if any(pair.kind == each for pair in texts)]:
            rows.append(row(f"{of}, {change}: AUROC", _auroc_of(texts, probabilities, change), at_least=0.85))
            rows.append(row(f"{of}, {change}: named as unsupported", _named(texts, probabilities, change), "share"))
        rows.append(row(f"{of}, supported: named as unsupported", _named(texts, probabilities, SUPPORTED), "share"))
    rows.append(row("CPU time a sentence, its document's share included", cost * 1000, "ms"))
    return report(NAME, f"{embedder.id}, no service", rows)


def measured(found: Sequence[Pair], embedder: Embedder, say: Say) -> list[Doubts]:
    """What speaks against each sentence."""
    say(f"{len(found)} sentences")
    at = dict[int, Doubts]()
    for document in sorted({pair.document for pair in found}):
        places = [place for place, pair in enumerate(found) if pair.document == document]
        evidence = embedded(units([found[places[0]].context], ()), embedder)
        at |= dict(zip(places, doubts([found[place].claim for place in places], evidence, embedder), strict=True))
    return [at[place] for place in range(len(found))]


def _cross_validated(found: Sequence[Pair], doubted: Sequence[Doubts], *, without: Container[str] = ()) -> Floats:
    """Log-odds of each sentence by a fit that knows neither its document nor the kinds `without`."""
    supported = np.array([pair.kind == SUPPORTED for pair in found])
    known = np.array([pair.kind not in without for pair in found])
    fold = np.array([pair.document % _FOLDS for pair in found])
    raw = np.array([evidence_features(each) for each in doubted])
    nearer = np.array([[each.nearer[kind] for kind in KINDS] for each in doubted])
    scores = np.zeros(len(found))
    for tested in range(_FOLDS):
        train = (fold != tested) & known
        usual = nearer[train & supported]
        design = np.column_stack([raw, worst(counted(nearer, usual.mean(axis=0), usual.std(axis=0)))])
        spread = np.maximum(design[train].std(axis=0), 0.1)  # names that are nowhere stand in foreign sentences only
        design = np.column_stack([np.ones(len(found)), (design - design[train].mean(axis=0)) / spread])
        weights = _logistic(design[train], supported[train])
        scores[fold == tested] = design[fold == tested] @ weights
    return scores


def _logistic(design: Floats, labels: NDArray[np.bool_]) -> Floats:
    """Weights of log-odds, with a weak prior on all but the constant."""
    signs = np.where(labels, 1.0, -1.0)

    def loss(at: Floats) -> float:
        return float(np.logaddexp(0, -signs * (design @ at)).sum() + (at[1:] ** 2).sum() / 2)

    return np.asarray(minimize(loss, np.zeros(design.shape[1])).x)


def _auroc_of(found: Sequence[Pair], scores: Floats, change: str) -> float:
    """How often a supported sentence has the higher score of it and a changed one; a tie is half."""
    kinds = np.array([pair.kind for pair in found])
    right, wrong = scores[kinds == SUPPORTED], scores[kinds == change]
    above = (right[:, None] > wrong).mean() + (right[:, None] == wrong).mean() / 2
    return float(above)


def _named(found: Sequence[Pair], probabilities: Floats, kind: str) -> float:
    of = np.array([pair.kind == kind for pair in found])
    return float((probabilities[of] < 0.5).mean())
