"""Trains a head for moderation from labelled texts, measures it, and writes its model card."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Self

import numpy as np
from numpy.typing import NDArray
from pydantic import Field, ValidationError, model_validator

from headrace_schemas.errors import ConfigurationError
from headrace_schemas.hazards import HAZARDS
from headrace_schemas.limits import NonEmptyText, ShortText
from headrace_schemas.model import Value
from headrace_schemas.reasons import describe
from headrace_workers.features.moderation.head import SCORE_FLOOR
from headrace_workers.models.heads import Bools, Floats, Head, fit_binary, sigmoid
from headrace_workers.stats.detection_rates import DetectionRates, rates
from headrace_workers.stats.estimates import Estimate, Undefined

_WORD: Final = re.compile(r"\w+")
_SHARED: Final = 0.5  # of the three-word sequences of the shorter text
_READ: Final = 200  # words of a text
_MOST: Final = 50  # texts that are kept for one sequence; one that many texts have says little
STRENGTH: Final = 10.0  # of scikit-learn's parameter of this name: vectors have length 1, and little of it is harm

MAX_EXAMPLES: Final = 200_000
LONGEST: Final = 4_000_000  # bytes of a line
# Found by patterns, or by the deployment's own lists: nothing to learn.
NOT_LEARNT: Final = frozenset({"personal_data", "secrets", "system_prompt_leak", "profanity", "blocklist", "unsafe"})
LEARNT: Final = tuple(hazard.name for hazard in HAZARDS if hazard.name not in NOT_LEARNT)
LEAST_POSITIVES: Final = 100
LEAST_SOURCES: Final = 2
_MOST_FOLDS: Final = 5


@dataclass(frozen=True)
class Figures:
    """Results for one category: its number of examples, and the head's results with each source left out in turn."""

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


class Example(Value):
    """One labelled text. A category that `labels` does not name is unknown of it; `benign` is a no to all."""

    text: NonEmptyText
    source: Annotated[ShortText, Field(min_length=1, description="The data set that it is from.")]
    licence: ShortText = "not stated"
    labels: dict[str, bool] = {}
    benign: bool = False

    @model_validator(mode="after")
    def _says_something(self) -> Self:
        if unknown := sorted(self.labels.keys() - set(LEARNT)):
            raise ValueError(f"labels: {unknown[0][:80]!r} is none that is learnt; those are {', '.join(LEARNT)}")
        if self.benign and any(self.labels.values()):
            raise ValueError("it is benign, and labelled otherwise")
        if not self.benign and not self.labels:
            raise ValueError("it has neither labels nor benign: true")
        return self

    def label(self, category: str) -> bool | None:
        """Return True if it is of this category, False if not, and None where there is no label."""
        return False if self.benign else self.labels.get(category)


def train(examples: Sequence[Example], vectors: NDArray[np.float32], embedder: str) -> Trained:
    """Return a head for each category with enough examples. `vectors` has a row for each example; figures come from
    sources that training left out. Raise ConfigurationError where no category has enough.
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
        fitted.append(fit_binary(vectors[known], positive, STRENGTH))
    if not fitted:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in left_out.items())
        raise ConfigurationError(f"no category can be trained: {reasons}")
    weights = np.array([weights for weights, _ in fitted], dtype=np.float32)
    bias = np.array([bias for _, bias in fitted], dtype=np.float32)
    return Trained(Head(embedder, weights, bias, tuple(figures)), figures, left_out)


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
    fold_of = {name: index % number for index, (name, _) in enumerate(counts.most_common())}
    return np.array([fold_of[name] for name in sources.tolist()])


def _held_out(vectors: NDArray[np.float32], positive: Bools, sources: NDArray[np.str_]) -> Figures:
    folds = _folds(positive, sources)
    flagged = np.zeros(len(positive), dtype=np.bool_)
    for fold in sorted(set(folds.tolist())):
        here = folds == fold
        weights, bias = fit_binary(vectors[~here], positive[~here], STRENGTH)
        flagged[here] = sigmoid(vectors[here] @ weights + bias) >= SCORE_FLOOR
    names = sorted(set(sources.tolist()))
    return Figures(
        positives=int(positive.sum()),
        negatives=int((~positive).sum()),
        sources=tuple(sorted(set(sources[positive].tolist()))),
        whole=rates(flagged, positive),
        by_source={name: rates(flagged[sources == name], positive[sources == name]) for name in names},
    )


def card(trained: Trained, examples: Sequence[Example], file: str) -> str:
    """Return the card as Markdown."""
    return "\n".join([*_about(trained, file), *_data(examples), *_figures(trained), *_left_out(trained)]) + "\n"


def _about(trained: Trained, file: str) -> Iterator[str]:
    yield f"# {file}"
    yield ""
    yield f"A head for moderation, version `{trained.head.version}`: logistic regression for each category by itself,"
    yield f"over the sentences and longer stretches of a text, as the embedder `{trained.head.embedder}` reads them."
    yield ""
    yield "**Trained on prompts, unmeasured on outputs**, unless the sources below hold outputs of models. What it says"
    yield "of those is for a person to review, until it was measured on them."
    yield ""


def _data(examples: Sequence[Example]) -> Iterator[str]:
    yield "## Data"
    yield ""
    yield "| source | licence | texts | without siblings | benign | positives |"
    yield "|---|---|---|---|---|---|"
    family = dict(zip(map(id, examples), families([example.text for example in examples]), strict=True))
    for source, own in sources_of(list(examples)).items():
        counts = Counter(name for example in own for name, of_it in example.labels.items() if of_it)
        positives = ", ".join(f"{name} {count:,}" for name, count in sorted(counts.items())) or "none"
        licences = ", ".join(sorted({example.licence for example in own}))
        alone = len({family[id(example)] for example in own})
        benign = sum(example.benign for example in own)
        yield f"| {_cell(source)} | {_cell(licences)} | {len(own):,} | {alone:,} | {benign:,} | {positives} |"
    yield ""
    yield "Siblings are texts of one template, or copies. They count under the source of the first of them."
    yield ""


def _figures(trained: Trained) -> Iterator[str]:
    yield "## Figures"
    yield ""
    yield f"At a score of {SCORE_FLOOR}. Split by source, never at random: each figure is of texts of sources that the"
    yield "head which was asked had not seen. In brackets, Wilson's interval at 95 %."
    yield ""
    yield "| category | positives | negatives | precision | recall | benign false positives |"
    yield "|---|---|---|---|---|---|"
    for name, figures in trained.figures.items():
        rates = figures.whole
        shares = " | ".join(map(_share, (rates.precision, rates.recall, rates.benign_false_positives)))
        yield f"| `{name}` | {figures.positives:,} | {figures.negatives:,} | {shares} |"
    yield ""
    yield "| category | source that was left out | recall | benign false positives |"
    yield "|---|---|---|---|"
    for name, figures in trained.figures.items():
        for source, rates in figures.by_source.items():
            yield f"| `{name}` | {_cell(source)} | {_share(rates.recall)} | {_share(rates.benign_false_positives)} |"
    yield ""


def _left_out(trained: Trained) -> Iterator[str]:
    if trained.left_out:
        yield "## Not trained"
        yield ""
        yield from (f"- `{name}`: {reason}" for name, reason in trained.left_out.items())


def _share(found: Estimate | Undefined) -> str:
    if isinstance(found, Undefined):
        return found.reason
    return f"{found.value:.3f} [{found.interval.low:.3f}, {found.interval.high:.3f}] of {found.n:,}"


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def origins(texts: Sequence[str], sources: Sequence[str]) -> list[str]:
    """Return the source of each text; texts that share half of the shorter one's three-word sequences share it."""
    return [sources[family] for family in families(texts)]


def families(texts: Sequence[str]) -> list[int]:
    """Return for each text the place of the first of its siblings; its own where it has none before it."""
    first: list[int] = []
    sizes: list[int] = []
    owners: dict[tuple[str, ...], list[int]] = {}
    for index, text in enumerate(texts):
        sequences = _sequences(text)
        shared: dict[int, int] = {}
        for sequence in sequences:
            for other in owners.get(sequence, ()):
                shared[other] = shared.get(other, 0) + 1
        alike = [other for other, n in shared.items() if n >= _SHARED * min(len(sequences), sizes[other])]
        first.append(first[min(alike)] if alike else index)
        sizes.append(len(sequences))
        for sequence in sequences:
            known = owners.setdefault(sequence, [])
            if len(known) < _MOST:
                known.append(index)
    return first


def _sequences(text: str) -> set[tuple[str, ...]]:
    words = _WORD.findall(text.lower())[:_READ]
    return {tuple(words[at : at + 3]) for at in range(max(1, len(words) - 2))}


def read_examples(paths: list[Path]) -> Iterator[Example]:
    """Yield the examples of these files, at most MAX_EXAMPLES; ConfigurationError names file, line and reason."""
    number = 0
    for path in paths:
        try:
            with path.open("rb") as file:
                for line, content in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), start=1):
                    if content.strip():
                        number += 1
                        yield _example(path, line, content, number)
        except OSError as error:
            raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


def _example(path: Path, line: int, content: bytes, number: int) -> Example:
    where = f"{path}, line {line}"
    if len(content) > LONGEST:
        raise ConfigurationError(f"{where} has more than {LONGEST:,} bytes")
    if number > MAX_EXAMPLES:
        raise ConfigurationError(f"{where}: more than {MAX_EXAMPLES:,} examples; take a sample of each source")
    try:
        return Example.model_validate_json(content, strict=True)
    except ValidationError as error:
        raise ConfigurationError(f"{where}: {describe(error, content)}") from None


def sources_of(examples: list[Example]) -> Mapping[str, list[Example]]:
    """Return the examples by their source, in the order in which they come."""
    found: dict[str, list[Example]] = {}
    for example in examples:
        found.setdefault(example.source, []).append(example)
    return found
