"""Training of a classifier. A fifth of each label's rows is held out; the threshold is the last, from the safest on,
that these show to have the agreement that is asked for (testing in a fixed sequence).
"""

from array import array
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from hashlib import blake2b, sha256
from math import sqrt
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from pydantic import BaseModel, ConfigDict, ValidationError

from headrace_schemas.decision import ChoiceValue
from headrace_schemas.errors import ConfigurationError
from headrace_schemas.limits import NonEmptyText
from headrace_schemas.reasons import describe
from headrace_workers.core.json_lines import LineTooLong, lines
from headrace_workers.features.classifiers.novelty import Novelty
from headrace_workers.models.embedders.embedder import CountingEmbedder
from headrace_workers.models.heads import Bools, Floats, Head, Labels, fit, log_loss, softmax
from headrace_workers.stats.binomial import clopper_pearson_lower, clopper_pearson_upper
from headrace_workers.stats.temperature import calibration_error, fit_temperature

MOST_CLASSES: Final = 1_000
STRENGTHS: Final = (1.0, 10.0, 100.0)  # of scikit-learn's parameter C, of which one is chosen
MOST_ROWS: Final = 100_000  # that a head is trained on
LEAST_OF_LABEL: Final = 5
LEAST_TO_CALIBRATE: Final = 100
MOST_READ: Final = 10_000_000  # lines of the data
_LONGEST: Final = 4_000_000  # bytes of a line
_AT_ONCE: Final = 256  # texts
_PARTS: Final = 5  # of which one is held out
_COOLEST, _HOTTEST = 0.37, 7.4  # temperatures: rows without an error would have it as small as it may be
_ALPHA: Final = 0.05
_BOTH_SIDES: Final = 0.025
_FLOOR: Final = 0.1  # of the right rows have a winning logit below the least that is answered
_CANDIDATES: Final = 200  # thresholds
_MARGIN: Final = 3.0  # standard deviations of the errors among the held-out rows

Label = str | bool | None


class Row(BaseModel):
    """A labelled text. The label null says that none of the choices is right: the classifier is to abstain."""

    model_config = ConfigDict(frozen=True, strict=True)

    input: NonEmptyText
    label: ChoiceValue | None


@dataclass(frozen=True)
class Data:
    """The rows that a head is trained on; `said` names the faulty ones, `labels` are in the order of the classes."""

    texts: Callable[[], Iterator[list[str]]]
    classes: tuple[Label, ...]
    labels: Labels
    digest: str
    said: tuple[str, ...]


def rows_of(path: Path) -> Iterator[tuple[int, int, Row]]:
    """Yield the number, the offset and the row of each line. Raise ConfigurationError: file, line and reason."""
    try:
        with path.open("rb") as file:
            for line in lines(file, _LONGEST):
                if line.number > MOST_READ:
                    raise ConfigurationError(f"{path} has more than {MOST_READ:,} lines: take a sample")
                try:
                    yield line.number, line.offset, Row.model_validate_json(line.text)
                except ValidationError as error:
                    raise ConfigurationError(f"{path}, line {line.number}: {describe(error, line.text)}") from None
    except LineTooLong as error:
        raise ConfigurationError(f"{path}, line {error.number} has more than {_LONGEST:,} bytes") from None
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error


class _Scan:
    """The lines of a file, as numbers: the digest, the label, the number and the offset of each text that the embedder
    reads whole.
    """

    def __init__(self, path: Path, embedder: CountingEmbedder) -> None:
        self.known: dict[Label, int] = {}
        self.said: list[str] = []
        digests, kinds, numbers, offsets = array("Q"), array("H"), array("Q"), array("Q")
        too_long, whole = 0, sha256()
        for number, offset, row in rows_of(path):
            whole.update(f"{row.input}\0{type(row.label).__name__}\0{row.label}\n".encode())
            if embedder.count_tokens(row.input) + embedder.added_tokens > embedder.max_tokens:
                too_long += 1
                continue
            if len(self.known) == MOST_CLASSES and row.label not in self.known:
                raise ConfigurationError(
                    f"{path}, line {number}: more than {MOST_CLASSES:,} labels; merge some of them"
                )
            kinds.append(self.known.setdefault(row.label, len(self.known)))
            digests.append(int.from_bytes(blake2b(row.input.strip().encode(), digest_size=8).digest()))
            numbers.append(number)
            offsets.append(offset)
        if too_long:
            self.said.append(f"{too_long:,} texts are longer than the embedder reads, and were left out")
        self.digests, self.kinds = np.frombuffer(digests, np.uint64), np.frombuffer(kinds, np.uint16)
        self.numbers, self.offsets = np.frombuffer(numbers, np.uint64), np.frombuffer(offsets, np.uint64)
        self.digest = whole.hexdigest()

    def classes_of(self, classes: Sequence[Label], rows: Labels) -> Labels:
        """Return the class of each of these rows; the number after the last for a label that is none of them."""
        places = {label: place for place, label in enumerate(classes)}
        return np.array([places.get(label, len(classes)) for label in self.known], np.intp)[self.kinds[rows]]


def read_data(path: Path, embedder: CountingEmbedder, seed: int) -> Data:
    """Return the rows of a file, at most MOST_ROWS. Raise ConfigurationError for labels that cannot be learnt."""
    scan = _Scan(path, embedder)
    kept = _without_repeats(scan.digests, scan.kinds, scan.numbers, scan.said)
    named = sorted((item for item in scan.known if item is not None), key=lambda each: (isinstance(each, str), each))
    classes: tuple[Label, ...] = (*named, *([None] if None in scan.known else []))
    labels = scan.classes_of(classes, kept)
    _check_labels(path, classes, labels, scan.numbers[kept])
    if len(kept) > MOST_ROWS:
        scan.said.append(f"{len(kept):,} rows; {MOST_ROWS:,} of them were drawn, as many of each label as its share")
        share = np.bincount(labels) * MOST_ROWS // len(kept)
        drawn = _ranks(labels, seed) < np.maximum(LEAST_OF_LABEL, share)[labels]
        kept, labels = kept[drawn], labels[drawn]
    return Data(partial(_texts, path, scan.offsets[kept]), classes, labels, scan.digest, tuple(scan.said))


def read_rows(path: Path, embedder: CountingEmbedder, choices: Sequence[Label]) -> Data:
    """Return all rows of a file, at most MOST_ROWS, to measure with. A label that is none of the choices is of the
    class after them. Raise ConfigurationError where there are no rows, or more.
    """
    scan = _Scan(path, embedder)
    if not 0 < len(scan.kinds) <= MOST_ROWS:
        raise ConfigurationError(f"{path} has {len(scan.kinds):,} usable rows: give 1 to {MOST_ROWS:,}")
    labels = scan.classes_of(choices, np.arange(len(scan.kinds)))
    if strange := int((labels == len(choices)).sum()):
        scan.said.append(f"{strange:,} rows have none of the classifier's labels: it should abstain from them")
    return Data(partial(_texts, path, scan.offsets), tuple(choices), labels, scan.digest, tuple(scan.said))


def _without_repeats(
    digests: NDArray[np.uint64], kinds: NDArray[np.uint16], numbers: NDArray[np.uint64], said: list[str]
) -> Labels:
    """Return the places of the rows whose text is there with one label alone, each text once."""
    _, first, group = np.unique(digests, return_index=True, return_inverse=True)
    differs = kinds != kinds[first][group] if len(kinds) else np.zeros(0, bool)
    contradicted = np.zeros(len(first), bool)
    contradicted[group[differs]] = True
    if contradicted.any():
        line = int(numbers[np.flatnonzero(differs)[0]])
        before = int(numbers[first[group[np.flatnonzero(differs)[0]]]])
        said.append(
            f"{contradicted.sum():,} texts have several labels, and were left out, such as lines {before} and {line}"
        )
    repeated = len(digests) - len(first) - int(differs.sum())
    if repeated:
        said.append(f"{repeated:,} rows repeat a text, which counts once")
    return np.sort(first[~contradicted])


def _check_labels(path: Path, classes: Sequence[Label], labels: Labels, numbers: NDArray[np.uint64]) -> None:
    if len([label for label in classes if label is not None]) < 2:
        only = "no label" if not len(labels) else f"the label {classes[0]!r} alone"
        raise ConfigurationError(f"{path} has {only}: a classifier needs rows of two labels at least")
    counts = np.bincount(labels, minlength=len(classes))
    if (rare := np.flatnonzero(counts < LEAST_OF_LABEL)).size:
        lines_of = numbers[labels == rare[0]]
        where = f" (line {lines_of[0]})" if len(lines_of) else ""
        raise ConfigurationError(
            f"{path}: the label {classes[rare[0]]!r} has {counts[rare[0]]} usable rows{where}, and {rare.size} labels "
            f"have fewer than {LEAST_OF_LABEL}: give each {LEAST_OF_LABEL} at least, or leave those labels out"
        )


def _texts(path: Path, offsets: NDArray[np.uint64]) -> Iterator[list[str]]:
    """Yield the texts of the lines that begin at these offsets, some at a time."""
    with path.open("rb") as file:
        for start in range(0, len(offsets), _AT_ONCE):
            some = []
            for offset in offsets[start : start + _AT_ONCE]:
                file.seek(int(offset))
                some.append(Row.model_validate_json(file.readline(_LONGEST + 1)).input)
            yield some


def vectors_of(data: Data, embedder: CountingEmbedder) -> Floats:
    """Return the vector of each row, (rows, dimensions)."""
    vectors = np.empty((len(data.labels), embedder.dimensions), np.float32)
    start = 0
    for texts in data.texts():
        vectors[start : start + len(texts)] = embedder.embed(texts)
        start += len(texts)
    return vectors


@dataclass(frozen=True)
class Rule:
    """The rule by which a head answers: the probability and the logit of the class that wins are at least these. A
    class after the first `choices` is none of them, and a foreign text is not answered.
    """

    threshold: float
    least_logit: float
    choices: int

    def served(self, logits: Floats, foreign: Bools) -> Bools:
        """Return which rows are answered."""
        sure = ~foreign & (softmax(logits).max(axis=1) >= self.threshold)
        return np.asarray(sure & (logits.max(axis=1) >= self.least_logit) & (logits.argmax(axis=1) < self.choices))


@dataclass(frozen=True)
class Figures:
    """Results of a head on rows that it was not trained on: how many rows there are, how many it answers, and how many
    of these correctly. `right` counts the rows, answered or not, whose label wins; `foreign` those that the novelty
    test refuses.
    """

    rows: int
    served: int
    agreed: int
    right: int
    foreign: int
    calibration_error: float

    @property
    def agreement_bound(self) -> float:
        """Return the agreement that 95 % of such samples do not overstate: Clopper and Pearson's bound."""
        return 1.0 - clopper_pearson_upper(self.served - self.agreed, self.served, _ALPHA) if self.served else 0.0


def interval(count: int, of: int) -> tuple[float, float]:
    """Return Clopper and Pearson's interval of a share, at 95 %."""
    if not of:
        return 0.0, 1.0
    return clopper_pearson_lower(count, of, _BOTH_SIDES), clopper_pearson_upper(count, of, _BOTH_SIDES)


def figures_of(logits: Floats, labels: Labels, foreign: Bools, rule: Rule) -> Figures:
    """Return what these logits come to."""
    served, right = rule.served(logits, foreign), logits.argmax(axis=1) == labels
    error = calibration_error(softmax(logits).max(axis=1), right)
    agreed, refused = int((served & right).sum()), int(foreign.sum())
    return Figures(len(labels), int(served.sum()), agreed, int(right.sum()), refused, error)


def labels_needed(agreement: float, wrong: float = 0.0) -> int:
    """Return how many answered rows, of which so many are wrong, show an agreement at 95 %."""
    low, high = 0, 1
    while clopper_pearson_upper(wrong, high, _ALPHA) > 1 - agreement:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if clopper_pearson_upper(wrong, middle, _ALPHA) > 1 - agreement else (low, middle)
    return high


@dataclass(frozen=True)
class Trained:
    """A head, its novelty test, the rule by which it answers, and its figures on the rows that were held out."""

    head: Head
    novelty: Novelty
    rule: Rule
    figures: Figures
    rows: int
    calibrated: bool


def check_enough(rows: int, agreement: float) -> None:
    """Raise ConfigurationError, which says how many rows are missing, where so few cannot show this agreement."""
    if rows // _PARTS < (needed := labels_needed(agreement)):
        raise ConfigurationError(
            f"{rows:,} usable rows, of which {rows // _PARTS:,} are held out: to show an agreement of {agreement:g} "
            f"takes {needed:,} held-out rows even without an error, so {_PARTS * needed - rows:,} labels are missing. "
            "Give more, or lower --agreement"
        )


def train(
    vectors: Floats, labels: Labels, classes: int, choices: int, agreement: float, seed: int, embedder: str
) -> Trained:
    """Return a head with this agreement. Raise ConfigurationError if the held-out rows do not show it."""
    check_enough(len(labels), agreement)
    part = (_ranks(labels, seed) + labels) % _PARTS
    held, own = part == 0, part != 0
    strength, logits = _cross_fitted(vectors, labels, part, classes)
    calibrated = int(own.sum()) >= LEAST_TO_CALIBRATE
    scale = 1.0 / fit_temperature(logits[own], labels[own], _COOLEST, _HOTTEST)[0] if calibrated else 1.0
    head = Head(embedder, *fit(vectors[own], labels[own], classes, strength)).scaled(scale)
    named = labels < choices
    novelty = Novelty.of(vectors[own & named & (part != 1)], vectors[named & (part == 1)], seed)
    foreign = novelty.foreign(vectors)
    logits_held, labels_held = head.logits(vectors[held]), labels[held]
    passed: tuple[Rule, Figures] | None = None
    # The order of the rules does not depend on the held-out rows, so that all rules until the first that fails hold.
    scaled = logits[own] * np.float32(scale)
    for rule in _rules(scaled, labels[own], foreign[own], choices, agreement, len(labels_held)):
        figures = figures_of(logits_held, labels_held, foreign[held], rule)
        if figures.agreement_bound < agreement:
            break
        passed = rule, figures
    if passed is None:
        raise _not_shown(figures, agreement)
    return Trained(head, novelty, *passed, len(labels), calibrated)


def _not_shown(found: Figures, agreement: float) -> ConfigurationError:
    wrong = found.served - found.agreed
    more = max(0, labels_needed(agreement, wrong) - found.served)
    return ConfigurationError(
        f"of {found.rows:,} held-out rows the classifier would answer {found.served:,}, {wrong:,} of them otherwise "
        f"than they are labelled: that shows an agreement of {found.agreement_bound:.3f}, not {agreement:g}. "
        f"With so many errors it takes {more:,} more answered rows. Give more labels, mend wrong ones, or lower "
        "--agreement"
    )


def _ranks(labels: Labels, seed: int) -> Labels:
    """Return the place of each row among those of its label, in an order that is drawn."""
    order = np.random.default_rng(seed).permutation(len(labels))
    order = order[np.argsort(labels[order], kind="stable")]
    starts = np.concatenate([[0], np.cumsum(np.bincount(labels))])
    ranks = np.empty(len(labels), np.intp)
    ranks[order] = np.arange(len(labels)) - starts[labels[order]]
    return ranks


def _cross_fitted(vectors: Floats, labels: Labels, part: Labels, classes: int) -> tuple[float, Floats]:
    """Return the strength that did best on part 1, and the logits of parts 1 to 4 by heads that did not see them."""
    logits = np.zeros((len(labels), classes), np.float32)

    def without(number: int, strength: float) -> Floats:
        seen, unseen = (part != 0) & (part != number), part == number
        weights, bias = fit(vectors[seen], labels[seen], classes, strength)
        return np.asarray(vectors[unseen] @ weights.T + bias, np.float32)

    tried = {strength: without(1, strength) for strength in STRENGTHS}
    best = min(tried, key=lambda strength: log_loss(tried[strength], labels[part == 1]))
    logits[part == 1] = tried[best]
    for number in range(2, _PARTS):
        logits[part == number] = without(number, best)
    return best, logits


def _rules(logits: Floats, labels: Labels, foreign: Bools, choices: int, agreement: float, held: int) -> Iterator[Rule]:
    """Yield rules that answer ever more rows. The first is one that the held-out rows will most probably show to have
    this agreement.
    """
    right = logits.argmax(axis=1) == labels
    in_scope = logits.max(axis=1)[right & (labels < choices)]
    floor = float(np.quantile(in_scope, _FLOOR)) if in_scope.size else 0.0
    sure = np.where(Rule(0.0, floor, choices).served(logits, foreign), softmax(logits).max(axis=1), -1.0)
    answered = sure[sure >= 0]
    thresholds = np.unique(np.quantile(answered, np.linspace(0, 1, _CANDIDATES))) if answered.size else np.ones(1)
    share = held / len(labels)

    def likely_bound(threshold: float) -> float:
        served = sure >= threshold
        wrong = share * float((served & ~right).sum())
        return clopper_pearson_upper(wrong + _MARGIN * sqrt(wrong + 1), share * float(served.sum()), _ALPHA)

    bounds = [likely_bound(float(threshold)) for threshold in thresholds]
    first = next((at for at, bound in enumerate(bounds) if bound <= 1 - agreement), int(np.argmin(bounds)))
    yield from (Rule(float(threshold), floor, choices) for threshold in thresholds[first::-1])
