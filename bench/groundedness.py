"""Groundedness: AUROC of a sentence's support by kind of change: on documents that nobody here wrote, and on our own,
cross-validated, by a fit without the kind, and held out.
"""

import tempfile
from collections.abc import Container, Sequence
from pathlib import Path
from time import process_time
from typing import Final

import numpy as np
from numpy.typing import NDArray
from scipy.optimize import minimize
from tests.services import qwen

from bench import groundedness_foreign as foreign
from bench.ends import Say
from bench.groundedness_texts import CONTRADICTION, HELD_OUT, HELD_OUT_2, SUPPORTED, TEXTS, Pair, pairs
from bench.report import Report, Row, report, row, skipped
from headrace_workers.features.cache.measuring import LabelledPair
from headrace_workers.features.judging.groundedness.claim_quality import measure_claims
from headrace_workers.features.judging.groundedness.doubts import (
    KINDS,
    VETO,
    Doubts,
    counted,
    doubts,
    evidence_features,
    support,
    vetoes,
    worst,
)
from headrace_workers.features.judging.groundedness.evidence import embedded, units
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.models.verifiers.verify_stage import ModelVerifier

NAME = "groundedness"
# Kinds of change, and what is left out of the fit with each: who knows one kind of denial knows something of the other.
CHANGES: Final = {
    "number": {"number"},
    "name": {"name"},
    "negation": {"negation", CONTRADICTION},
    CONTRADICTION: {"negation", CONTRADICTION},
    "foreign": {"foreign"},
}
_FOREIGN_TARGETS: Final = {foreign.NUMBER: 0.9, foreign.NAME: 0.85}
_DOUBTED: Final = 0.2  # of the supported sentences, at most
_EVEN: Final = 0.5
_DRAWS: Final = 1_000
_FOLDS: Final = 6
_QUICK: Final = 60
_VERIFIER: Final = "qwen2.5-coder-0.5b-instruct"
_OF_SUPPORTED, _OF_CHANGED = 40, 8  # sentences that it is asked about: of a kind of change fewer

Floats = NDArray[np.float64]


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """Foreign documents, and our own with reworded sentences; no service is needed, so `embedded` changes nothing."""
    from headrace_schemas.aliases import DEFAULT_EMBEDDER
    from headrace_workers.models.embedders.load_embedder import load_embedder
    from headrace_workers.models.pull import pull

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
    rows = _on_foreign(embedder, say, quick=quick)
    rows += _verified(embedder, say, quick=quick)
    scored = _cross_validated(ours, found)
    for change, left_out in CHANGES.items():
        rows.append(row(f"{change}: AUROC", _auroc_of(ours, scored, change), at_least=0.9))
        unseen = _cross_validated(ours, found, without=left_out)
        rows.append(row(f"{change}, left out of the fit: AUROC", _auroc_of(ours, unseen, change), at_least=0.85))
    for of, texts in held_out.items():
        probabilities = np.array([support(item).probability for item in others[of]])
        for change in [text for text in CHANGES if any(pair.kind == text for pair in texts)]:
            rows.append(row(f"{of}, {change}: AUROC", _auroc_of(texts, probabilities, change), at_least=0.85))
            rows.append(row(f"{of}, {change}: named as unsupported", _named(texts, probabilities, change), "share"))
        rows.append(row(f"{of}, supported: named as unsupported", _named(texts, probabilities, SUPPORTED), "share"))
    rows.append(row("CPU time a sentence, its document's share included", cost * 1000, "ms"))
    return report(NAME, f"{embedder.id}, no service", rows)


def _on_foreign(embedder: Embedder, say: Say, *, quick: bool) -> list[Row]:
    """Headrace as it is, on foreign documents: AUROC by kind with its interval, drawn anew by document."""
    found = foreign.pairs()
    found = found[:_QUICK] if quick else found
    judged = [support(item) for item in measured(found, embedder, say)]
    scores, counted_ = np.array([item.probability for item in judged]), np.array([item.checked for item in judged])
    kinds = np.array([pair.kind for pair in found])
    documents = np.array([pair.document for pair in found])
    rows = []
    for change in [name for name in foreign.CHANGED if name in kinds]:
        of = np.isin(kinds, (SUPPORTED, change))
        low, high = _interval(documents[of], scores[of], kinds[of] == SUPPORTED)
        told = f"foreign, {change} (n = {(kinds == change).sum()}, {low:.3f} to {high:.3f})"
        rows.append(row(f"{told}: AUROC", _auroc_of(found, scores, change), at_least=_FOREIGN_TARGETS.get(change)))
        rows.append(row(f"foreign, {change}: counted as unsupported", counted_[kinds == change].mean(), "share"))
        hinted = (counted_ | (scores < _EVEN))[kinds == change].mean()
        rows.append(row(f"foreign, {change}: counted or named as a hint", hinted, "share"))
    supported = kinds == SUPPORTED
    told = f"foreign, supported (n = {supported.sum()})"
    rows.append(row(f"{told}: counted as unsupported", counted_[supported].mean(), "share", at_most=_DOUBTED))
    hinted = (counted_ | (scores < _EVEN))[supported].mean()
    rows.append(row(f"{told}: counted or named as a hint", hinted, "share", at_most=_DOUBTED))
    return rows


def _verified(embedder: Embedder, say: Say, *, quick: bool) -> list[Row]:
    """A small model in the place of the rules, and the rules, on the same foreign sentences: as many of each kind."""
    if quick or not qwen.path().is_file():
        return [skipped(f"foreign, verified by {_VERIFIER}: AUROC", "make qwen, and no --quick")]
    from headrace_workers.models.convert import convert
    from headrace_workers.models.engines.engine import LoadOptions
    from headrace_workers.models.engines.load_generator import load_generator

    found = foreign.pairs()
    chosen = [
        pair
        for kind in (SUPPORTED, *foreign.CHANGED)
        for pair in [pair for pair in found if pair.kind == kind][: _OF_SUPPORTED if kind == SUPPORTED else _OF_CHANGED]
    ]
    claims = [LabelledPair(pair.document, pair.context, pair.claim, pair.kind == SUPPORTED) for pair in chosen]
    with tempfile.TemporaryDirectory() as folder:
        say(f"converting {_VERIFIER}")
        convert(str(qwen.path()), _VERIFIER, Path(folder), "int8")
        verifier = ModelVerifier(load_generator(Path(folder), _VERIFIER, LoadOptions()))
        say(f"asking {_VERIFIER} about {len(claims)} sentences")
        by_model = measure_claims(verifier, claims, embedder)
    rows = []
    for name, quality in (
        (f"verified by {_VERIFIER}", by_model),
        ("the rules", measure_claims(None, claims, embedder)),
    ):
        told = f"foreign, {name} (n = {quality.pairs}, {quality.low:.2f} to {quality.high:.2f})"
        rows.append(row(f"{told}: AUROC", quality.auroc))
        rows.append(row(f"foreign, {name}: supported sentences denied", 1 - quality.confirmed, "share"))
        rows.append(row(f"foreign, {name}: other sentences denied", 1 - quality.wrongly, "share"))
    return [*rows, row(f"foreign, verified by {_VERIFIER}: a sentence", by_model.seconds, "s")]


def _interval(documents: NDArray[np.int64], scores: Floats, right: NDArray[np.bool_]) -> tuple[float, float]:
    """The 95 % interval of an AUROC: whole documents are drawn anew."""
    random = np.random.default_rng(0)
    of = [np.flatnonzero(documents == document) for document in np.unique(documents)]
    drawn = []
    for _ in range(_DRAWS):
        chosen = np.concatenate([of[integer] for integer in random.integers(0, len(of), len(of))])
        above, below = scores[chosen][right[chosen]], scores[chosen][~right[chosen]]
        if len(above) and len(below):
            drawn.append((above[:, None] > below).mean() + (above[:, None] == below).mean() / 2)
    low, high = np.quantile(drawn, (0.025, 0.975))
    return float(low), float(high)


def measured(found: Sequence[Pair | foreign.Pair], embedder: Embedder, say: Say) -> list[Doubts]:
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
    raw = np.array([evidence_features(item) for item in doubted])
    nearer = np.array([[item.nearer[kind] for kind in KINDS] for item in doubted])
    scores = np.zeros(len(found))
    for tested in range(_FOLDS):
        train = (fold != tested) & known
        usual = nearer[train & supported]
        design = np.column_stack([raw, worst(counted(nearer, usual.mean(axis=0), usual.std(axis=0)))])
        spread = np.maximum(design[train].std(axis=0), 0.1)  # names that are nowhere stand in foreign sentences only
        design = np.column_stack([np.ones(len(found)), (design - design[train].mean(axis=0)) / spread])
        weights = _logistic(design[train], supported[train])
        scores[fold == tested] = design[fold == tested] @ weights
    scores += VETO * np.array([vetoes(item) for item in doubted])
    return scores


def _logistic(design: Floats, labels: NDArray[np.bool_]) -> Floats:
    """Weights of log-odds, with a weak prior on all but the constant."""
    signs = np.where(labels, 1.0, -1.0)

    def loss(at: Floats) -> float:
        return float(np.logaddexp(0, -signs * (design @ at)).sum() + (at[1:] ** 2).sum() / 2)

    return np.asarray(minimize(loss, np.zeros(design.shape[1])).x)


def _auroc_of(found: Sequence[Pair | foreign.Pair], scores: Floats, change: str) -> float:
    """How often a supported sentence has the higher score of it and a changed one; a tie is half."""
    kinds = np.array([pair.kind for pair in found])
    right, wrong = scores[kinds == SUPPORTED], scores[kinds == change]
    above = (right[:, None] > wrong).mean() + (right[:, None] == wrong).mean() / 2
    return float(above)


def _named(found: Sequence[Pair], probabilities: Floats, kind: str) -> float:
    of = np.array([pair.kind == kind for pair in found])
    return float((probabilities[of] < 0.5).mean())
