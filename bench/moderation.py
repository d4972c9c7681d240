"""Moderation: what detectors find in public sets of harmful prompts, what they object to in harmless texts, and what
that costs beside generating an answer.
"""

import json
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from bench.ends import Say
from bench.flow import SMOLLM2, make_home, requests
from bench.foreign_texts import labelled, products_and_news
from bench.kept import FOLDER, KeptVectors
from bench.moderation_sets import harms, sets
from bench.moderation_texts import BENIGN, BORDERLINE, Template
from bench.report import Report, Row, report, row, skipped
from headrace_schemas import HeadraceError, Message, Sampling
from headrace_schemas.errors import Unavailable
from headrace_workers.features.moderation.detector import Moderation
from headrace_workers.features.moderation.head import SCORE_FLOOR, HeadDetector
from headrace_workers.features.moderation.head_training import LEAST_POSITIVES, LEAST_SOURCES, STRENGTH
from headrace_workers.features.moderation.moderator import PolicyModerator, build_moderator, warm_up
from headrace_workers.models.embedders.embedder import Embedder
from headrace_workers.models.generator import Completion, Request
from headrace_workers.models.heads import Head, fit_binary
from headrace_workers.stats.detection_rates import rates, share
from headrace_workers.stats.estimates import Estimate, Undefined

NAME = "moderation"
OUTPUTS: Final = 32
_TOKENS: Final = 64
_TIMES: Final = 15
_NOT_LEARNT: Final = "profanity"  # the rules have a classifier of their own for it
_HATECHECK: Final = Path(__file__).parent / "foreign" / "hatecheck.jsonl"
_QUICK: Final = 12  # every so many text

Bools = NDArray[np.bool_]


class Item(NamedTuple):
    """A text, where it is from, and what it is: a category, or `benign` or `borderline`."""

    text: str
    source: str
    kind: str


def bench(say: Say, *, quick: bool = False, embedded: bool = False) -> Report:
    """Public sets by leaving each out in turn, and our own texts by template. No service is needed."""
    from headrace_schemas.aliases import DEFAULT_EMBEDDER
    from headrace_workers.models.embedders.load_embedder import load_embedder
    from headrace_workers.models.pull import pull

    found = [Item(*harm) for harm in harms(sets())] + [*_ours(BENIGN, "benign"), *_ours(BORDERLINE, "borderline")]
    items = found[::_QUICK] if quick else found
    kinds = np.array([item.kind for item in items])
    with tempfile.TemporaryDirectory() as folder:
        pull(DEFAULT_EMBEDDER, Path(folder))
        embedder = load_embedder(Path(folder), DEFAULT_EMBEDDER)
        moderator = build_moderator()
        warm_up(moderator)
        say(f"{len(items):,} texts by the rules")
        rules, cursed = _by_rules(moderator, items)
        alone = _alone([item.text for item in items]) >= 0.5
        say("by heads, each trained without what it is asked about")
        head, learnt = _by_heads(items, KeptVectors(embedder, FOLDER, say), least=2 if quick else LEAST_POSITIVES)
        rows = [*_whole("shipped policy, rules alone", rules, kinds, bound=True)]
        rows += _whole("alt-profanity-check alone", alone, kinds)
        rows += _whole("rules and a head", rules | head.any(axis=0), kinds)
        rows += _of_category("rules, profanity", cursed, kinds, "profanity")
        rows += _of_category("alt-profanity-check, profanity", alone, kinds, "profanity")
        for place, category in enumerate(learnt):
            rows += _of_category(f"head, {category}", head[place], kinds, category)
        rows += _foreign(moderator, quick=quick)
        rows += _times(say, moderator, embedder, learnt, quick=quick)
    return report(NAME, f"{embedder.id}, no service", rows)


def _foreign(moderator: PolicyModerator, *, quick: bool) -> Iterator[Row]:
    """What the default policy does to product reviews and news, and to calls for violence."""
    texts = products_and_news(250 if quick else 2_500)
    done = _actions(moderator, texts)
    number = f"of {len(texts):,} product and news texts"
    yield estimated(f"default policy, {number}: blocked", share(done == "block"), at_most=0.0)
    yield estimated(f"default policy, {number}: held for a person", share(done == "review"))
    yield estimated(f"default policy, {number}: changed", share(done == "redact"))
    cases = [json.loads(line) for line in _HATECHECK.read_text(encoding="utf-8").splitlines()]
    for name, kind in (("direct threats", "threat_dir_h"), ("threats as a rule", "threat_norm_h")):
        said = [case["text"] for case in cases if case["kind"] == kind]
        yield estimated(f"HateCheck, {name}, of {len(said)}: held", share(_actions(moderator, said) == "review"))
    said = [case["text"] for case in cases if not case["hateful"]]
    yield estimated(f"HateCheck, not hateful, of {len(said):,}: held", share(_actions(moderator, said) == "review"))
    yield from _severe(moderator)
    harm = [pair.text for pair in harms(sets()) if pair.category == "self-harm"]
    yield estimated(f"DoNotAnswer, self-harm, of {len(harm)}: held", share(_actions(moderator, harm) == "review"))


def _severe(moderator: PolicyModerator) -> Iterator[Row]:
    """What the rules find of the severe kinds in OpenAI's test set, and where it says that they are not."""
    for label, category in (("S3", "sexual/minors"), ("H2", "hate/threatening"), ("SH", "self-harm/instructions")):
        try:
            groups = labelled(label)
        except Unavailable as unavailable:
            yield skipped(f"OpenAI's test set, {category}", str(unavailable))
            return
        for name, texts in zip(("found", "found where it is not"), groups, strict=True):
            found = [
                isinstance(moderation, Moderation) and moderation.verdict.categories[category]
                for moderation in moderator.moderate(texts)
            ]
            yield estimated(f"OpenAI's test set, {category}: {name}, of {len(texts):,}", share(np.array(found)))


def _actions(moderator: PolicyModerator, texts: Sequence[str]) -> NDArray[np.str_]:
    verdicts = [
        moderation
        for at in range(0, len(texts), OUTPUTS)
        for moderation in moderator.moderate(texts[at : at + OUTPUTS])
    ]
    return np.array([verdict.action for verdict in verdicts if isinstance(verdict, Moderation)])


def _ours(templates: Sequence[Template], kind: str) -> Iterator[Item]:
    for number, template in enumerate(templates):
        for text in template.texts:
            yield Item(text, f"{kind} {number}", kind)


def _by_rules(moderator: PolicyModerator, items: Sequence[Item]) -> tuple[Bools, Bools]:
    """What the shipped policy objects to, and where for profanity."""
    flagged, cursed = [], []
    for at in range(0, len(items), OUTPUTS):
        for verdict in moderator.moderate([item.text for item in items[at : at + OUTPUTS]]):
            assert isinstance(verdict, Moderation)
            flagged.append(verdict.verdict.flagged)
            cursed.append(verdict.verdict.categories["profanity"])
    return np.array(flagged), np.array(cursed)


def _alone(texts: Sequence[str]) -> NDArray[np.float64]:
    """What alt-profanity-check gives each text, asked as its page says."""
    from profanity_check import predict_prob

    return np.asarray(predict_prob(list(texts)), dtype=np.float64)


def _by_heads(items: Sequence[Item], embedder: Embedder, *, least: int) -> tuple[Bools, tuple[str, ...]]:
    """What heads object to, (categories, items), and their categories: those with examples enough. Each item is asked
    of a head that has seen nothing of its source.
    """
    kinds, sources = np.array([item.kind for item in items]), np.array([item.source for item in items])
    learnt = tuple(
        kind
        for kind in sorted(set(kinds) - {"benign", "borderline", _NOT_LEARNT})
        if (kinds == kind).sum() >= least and len(set(sources[kinds == kind])) >= LEAST_SOURCES
    )
    vectors = embedder.embed([item.text for item in items])
    fold_of = {source: place for place, source in enumerate(sorted(set(sources[np.isin(kinds, learnt)])))}
    number = len(fold_of)
    others = sorted(set(sources) - set(fold_of))
    fold_of |= {source: place % number for place, source in enumerate(others)}
    folds = np.array([fold_of[source] for source in sources])
    flagged = np.zeros((len(learnt), len(items)), dtype=np.bool_)
    for fold in range(number):
        detector = HeadDetector(_fitted(vectors, kinds, folds != fold, learnt, embedder.id), embedder)
        here = np.flatnonzero(folds == fold)
        for at, detections in zip(here, detector.detect([items[place].text for place in here]), strict=True):
            for detection in detections:
                flagged[learnt.index(detection.category), at] |= detection.score >= SCORE_FLOOR
    return flagged, learnt


def _fitted(
    vectors: NDArray[np.float32], kinds: NDArray[np.str_], known: Bools, learnt: Sequence[str], embedder: str
) -> Head:
    """A head over these rows: of a category, its own texts against the harmless ones. Of other harm nobody knows."""
    harmless = np.isin(kinds, ("benign", "borderline"))
    fitted = []
    for category in learnt:
        rows = known & ((kinds == category) | harmless)
        fitted.append(fit_binary(vectors[rows], (kinds == category)[rows], STRENGTH))
    weights = np.array([weights for weights, _ in fitted], dtype=np.float32)
    return Head(embedder, weights, np.array([bias for _, bias in fitted], dtype=np.float32), tuple(learnt))


def _whole(name: str, flagged: Bools, kinds: NDArray[np.str_], *, bound: bool = False) -> Iterator[Row]:
    """Of all texts: whether harm is found at all, and how often harmless ones are objected to."""
    benign, borderline = kinds == "benign", kinds == "borderline"
    detection_rates = rates(flagged, ~benign & ~borderline)
    for word, estimate in (
        ("precision", detection_rates.precision),
        ("recall", detection_rates.recall),
        ("F1", detection_rates.f1),
    ):
        yield estimated(f"{name}: {word}", estimate)
    for word, which, most in (("benign", benign, 0.02), ("borderline", borderline, 0.05)):
        of_it = rates(flagged[which], np.zeros(which.sum(), dtype=np.bool_)).benign_false_positives
        yield estimated(f"{name}: {word} texts objected to, of {which.sum()}", of_it, at_most=most if bound else None)


def _of_category(name: str, flagged: Bools, kinds: NDArray[np.str_], category: str) -> Iterator[Row]:
    """Of one category's texts and the harmless ones."""
    rows = (kinds == category) | np.isin(kinds, ("benign", "borderline"))
    detection_rates = rates(flagged[rows], (kinds == category)[rows])
    yield estimated(f"{name}: precision", detection_rates.precision)
    yield estimated(f"{name}: recall, of {(kinds == category).sum()}", detection_rates.recall)
    yield estimated(f"{name}: F1", detection_rates.f1)
    yield estimated(f"{name}: benign false positives", detection_rates.benign_false_positives)


def estimated(
    metric: str, estimate: Estimate | Undefined, *, at_least: float | None = None, at_most: float | None = None
) -> Row:
    """A share with its interval at 95 %."""
    if isinstance(estimate, Undefined):
        return skipped(metric, estimate.reason)
    low, high = estimate.interval.low, estimate.interval.high
    return row(metric, estimate.value, f"{low:.3f} to {high:.3f}", at_least=at_least, at_most=at_most)


def _times(
    say: Say, moderator: PolicyModerator, embedder: Embedder, learnt: Sequence[str], *, quick: bool
) -> Iterator[Row]:
    """What each detector takes for an output in a batch of 32, as a share of generating it; all on one thread."""
    say(f"{OUTPUTS} outputs by {SMOLLM2}")
    count, tokens = (8, 16) if quick else (OUTPUTS, _TOKENS)
    texts, seconds = _generated(count, tokens)
    yield row(f"generating an output of {tokens} tokens in a batch of {count}", 1000 * seconds, "ms")
    weights = np.zeros((max(1, len(learnt)), embedder.dimensions), dtype=np.float32)
    head = HeadDetector(
        Head(embedder.id, weights, np.zeros(len(weights), np.float32), tuple(learnt or ("hate",))), embedder
    )
    asked: dict[str, Callable[[], object]] = {
        "rules": lambda: moderator.moderate(texts),
        "alt-profanity-check": lambda: _alone(texts),
        "head": lambda: head.detect(texts),
    }
    took = {name: _timed(work) / len(texts) for name, work in asked.items()}
    for name, value in took.items():
        yield row(f"{name}: an output", 1000 * value, "ms")
        yield row(f"{name}: to generating it", value / seconds, "share")
    yield row("rules and head: to generating it", (took["rules"] + took["head"]) / seconds, "share", at_most=0.03)


def _timed(work: Callable[[], object]) -> float:
    """Seconds, the median of some times."""
    work()
    found = []
    for _ in range(_TIMES):
        begun = time.perf_counter()
        work()
        found.append(time.perf_counter() - begun)
    return median(found)


def _generated(count: int, tokens: int) -> tuple[list[str], float]:
    """Answers of one batch, and the seconds for one of them."""
    from headrace_workers.models.engines.engine import LoadOptions
    from headrace_workers.models.engines.load_generator import load_generator

    with tempfile.TemporaryDirectory() as folder:
        generator = load_generator(make_home(Path(folder), SMOLLM2), SMOLLM2, LoadOptions(inter_threads=1))
        asked = [
            Request((Message(role="user", content=request["prompt"]),), Sampling(max_tokens=tokens))
            for request in requests(count)
        ]
        generator.generate(asked[:2])
        begun = time.perf_counter()
        answers: Sequence[Completion | HeadraceError] = generator.generate(asked)
        seconds = (time.perf_counter() - begun) / count
    return [answer.text for answer in answers if isinstance(answer, Completion)], seconds
