"""Trains a head for moderation, and says how well it does on sources of which it has seen nothing."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.moderation.examples import LEARNT, Example
from headrace_workers.features.moderation.fitting import Bools, Floats, fit
from headrace_workers.features.moderation.head import SCORE_FLOOR
from headrace_workers.features.moderation.head_file import Head
from headrace_workers.features.moderation.siblings import origins
from headrace_workers.features.quality.detection_rates import DetectionRates, rates

LEAST_POSITIVES: Final = 100
LEAST_SOURCES: Final = 2
_MOST_FOLDS: Final = 5


@dataclass(frozen=True)
class Figures:
    """Of one category: how many examples there are, and how the head does where each source was left out in turn."""

    positives: int
    negatives: int
    sources: tuple[str, ...]  # with positives
    whole: DetectionRates
    by_source: dict[str, DetectionRates]


@dataclass(frozen=True)
class Trained:
    """A head over all examples, its figures by category, and why the other categories are not in it."""

    head: Head
    figures: dict[str, Figures]
    left_out: dict[str, str]


def train(examples: Sequence[Example], vectors: NDArray[np.float32], embedder: str) -> Trained:
    """Return a head for each category with enough examples. Raise ConfigurationError where no category has enough.

    `vectors` has a row for each example, made by the embedder of this id. Figures are from heads that were trained
    without the sources that they were asked about: rows of one source are alike, and a random split would flatter.
    Siblings of one template count as one source.
    """
    origin = np.array(origins([example.text for example in examples], [example.source for example in examples]))
    figures: dict[str, Figures] = {}
    left_out: dict[str, str] = {}
    fitted: list[tuple[Floats, float]] = []
    for category in LEARNT:
        labels = [example.label(category) for example in examples]
        known = np.array([label is not None for label in labels])
        positive = np.array([label is True for label in labels])[known]
        sources = origin[known]
        if (reason := _too_few(positive, sources)) is not None:
            left_out[category] = reason
            continue
        figures[category] = _held_out(vectors[known], positive, sources)
        fitted.append(fit(vectors[known], positive))
    if not fitted:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ConfigurationError(f"no category can be trained: {reasons}")
    weights = np.array([weights for weights, _ in fitted], dtype=np.float32)
    bias = np.array([bias for _, bias in fitted], dtype=np.float32)
    return Trained(Head(tuple(figures), weights, bias, embedder), figures, left_out)


def folds_of(examples: Sequence[Example], category: str) -> NDArray[np.int64]:
    """Return the fold of each example. Sources, and siblings of one template, are never in two folds."""
    positive = np.array([example.label(category) is True for example in examples])
    return _folds(positive, np.array(origins([each.text for each in examples], [each.source for each in examples])))


def _too_few(positive: Bools, sources: NDArray[np.str_]) -> str | None:
    """Return the reason why a category cannot be trained, or None."""
    there = len(set(sources[positive].tolist()))
    if positive.sum() < LEAST_POSITIVES or there < LEAST_SOURCES:
        return (
            f"{int(positive.sum())} positives from {there} sources, of {LEAST_POSITIVES} from {LEAST_SOURCES} at least"
        )
    if positive.all():
        return "nothing is labelled as not of it"
    folds = _folds(positive, sources)
    if any(positive[folds != fold].all() for fold in set(folds.tolist())):
        return "without one of its sources nothing is labelled as not of it"
    return None


def _folds(positive: Bools, sources: NDArray[np.str_]) -> NDArray[np.int64]:
    """Return the fold of each row, which is that of its source. Sources with most positives are in different folds."""
    counts = Counter(dict.fromkeys(sources.tolist(), 0))
    counts.update(sources[positive].tolist())
    number = min(_MOST_FOLDS, len(counts))
    fold_of = {name: place % number for place, (name, _) in enumerate(counts.most_common())}
    return np.array([fold_of[name] for name in sources.tolist()])


def _held_out(vectors: NDArray[np.float32], positive: Bools, sources: NDArray[np.str_]) -> Figures:
    folds = _folds(positive, sources)
    flagged = np.zeros(len(positive), dtype=np.bool_)
    for fold in sorted(set(folds.tolist())):
        here = folds == fold
        weights, bias = fit(vectors[~here], positive[~here])
        scores = 0.5 * (1.0 + np.tanh(0.5 * (vectors[here] @ weights + bias)))
        flagged[here] = scores >= SCORE_FLOOR
    names = sorted(set(sources.tolist()))
    return Figures(
        positives=int(positive.sum()),
        negatives=int((~positive).sum()),
        sources=tuple(sorted(set(sources[positive].tolist()))),
        whole=rates(flagged, positive),
        by_source={name: rates(flagged[sources == name], positive[sources == name]) for name in names},
    )
