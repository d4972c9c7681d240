"""What a classifier learns from, when it answers, and the agreement that it is shown to have."""

import random
import re
import tracemalloc
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from tests.workers.features.classifiers.labelled import EMBEDDER, texts, write

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.classifiers import training
from headrace_workers.features.classifiers.training import (
    Rule,
    check_enough,
    figures_of,
    interval,
    labels_needed,
    read_data,
    read_rows,
    train,
    vectors_of,
)


def trained(path: Path, rows: list[tuple[str, Any]], agreement: float = 0.9, seed: int = 0) -> training.Trained:
    data = read_data(write(path / "labels.jsonl", rows), EMBEDDER, seed)
    choices = len([label for label in data.classes if label is not None])
    return train(vectors_of(data, EMBEDDER), data.labels, len(data.classes), choices, agreement, seed, EMBEDDER.id)


def test_an_agreement_of_97_percent_takes_99_held_out_rows_even_without_an_error() -> None:
    assert (labels_needed(0.97), labels_needed(0.95), labels_needed(0.97, wrong=1)) == (99, 59, 157)
    with pytest.raises(ConfigurationError, match=r"takes 99 held-out rows even without an error, so 395 labels are"):
        check_enough(100, 0.97)
    check_enough(495, 0.97)


def test_a_head_answers_what_the_held_out_rows_show_it_to_know(tmp_path: Path) -> None:
    found = trained(tmp_path, texts(600), agreement=0.95)
    assert found.figures.rows == 120
    assert found.figures.agreement_bound >= 0.95
    assert found.figures.served > 90
    assert found.figures.foreign < 20
    unseen = texts(300, seed=1)
    data = read_rows(write(tmp_path / "test.jsonl", unseen), EMBEDDER, ("billing", "broken", "praise"))
    vectors = vectors_of(data, EMBEDDER)
    foreign = found.novelty.foreign(vectors)
    figures = figures_of(found.head.logits(vectors), data.labels, foreign, found.rule)
    assert figures.agreed / figures.served > 0.95


def test_labels_that_nothing_explains_train_no_classifier(tmp_path: Path) -> None:
    drawn = random.Random(0)
    rows = [(text, drawn.choice(["billing", "broken"])) for text, _ in texts(600)]
    with pytest.raises(ConfigurationError, match=r"of 120 held-out rows .* shows an agreement of 0\.\d+, not 0\.9\."):
        trained(tmp_path, rows)


def test_no_head_and_no_threshold_sees_the_rows_that_bound_the_agreement(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A head knows the rows that it was trained on by heart: by them it would look far better."""
    data = read_data(write(tmp_path / "labels.jsonl", texts(500)), EMBEDDER, 0)
    vectors, seen, measured = vectors_of(data, EMBEDDER), set[bytes](), list[np.ndarray]()
    fitted, figured = training.fit, training.figures_of

    def fit(some: training.Floats, *rest: Any) -> tuple[training.Floats, training.Floats]:
        seen.update(row.tobytes() for row in some)
        return fitted(some, *rest)

    def figures(logits: training.Floats, *rest: Any) -> training.Figures:
        measured.append(logits)
        return figured(logits, *rest)

    monkeypatch.setattr(training, "fit", fit)
    monkeypatch.setattr(training, "figures_of", figures)
    found = train(vectors, data.labels, 3, 3, 0.9, 0, EMBEDDER.id)
    unseen = np.array([row for row in vectors if row.tobytes() not in seen])
    assert (len(seen), len(unseen)) == (400, 100)
    assert all(np.allclose(logits, found.head.logits(unseen), atol=1e-4) for logits in measured)


def test_a_text_without_a_fitting_choice_is_learnt_and_never_answered(tmp_path: Path) -> None:
    other = [(f"{text} weather rain sunny", None) for text in ("today", "tomorrow")]
    nothing = [(f"weather rain sunny {number}", None) for number in range(200)]
    found = trained(tmp_path, [*texts(600), *nothing])
    assert (len(found.head.bias), found.rule.choices) == (4, 3)
    data = read_rows(write(tmp_path / "test.jsonl", other), EMBEDDER, ("billing", "broken", "praise"))
    logits, known = found.head.logits(vectors_of(data, EMBEDDER)), np.zeros(2, bool)
    assert not found.rule.served(logits, known).any()
    assert Rule(0.0, -99.0, 4).served(logits, known).all()


def test_a_text_that_is_like_no_row_is_not_answered(tmp_path: Path) -> None:
    found = trained(tmp_path, texts(600))
    strange = [(f"zebra {number} quartz umbrella violin", "billing") for number in range(50)]
    data = read_rows(write(tmp_path / "test.jsonl", strange), EMBEDDER, ("billing", "broken", "praise"))
    vectors = vectors_of(data, EMBEDDER)
    assert found.novelty.foreign(vectors).mean() > 0.9
    assert found.rule.served(found.head.logits(vectors), found.novelty.foreign(vectors)).mean() < 0.1


def test_a_class_that_wins_with_a_low_logit_is_not_answered() -> None:
    """A text far from all rows may still be much nearer to one class than to the others."""
    logits = np.array([[0.2, -9.0, -9.0], [6.0, -3.0, -3.0]], np.float32)
    assert Rule(0.9, 2.0, 3).served(logits, np.zeros(2, bool)).tolist() == [False, True]


def test_a_foreign_text_is_not_answered_however_sure_the_head_is() -> None:
    logits = np.array([[9.0, -9.0], [9.0, -9.0]], np.float32)
    assert Rule(0.0, -99.0, 2).served(logits, np.array([True, False])).tolist() == [False, True]


def test_a_text_that_no_choice_fits_makes_the_novelty_test_no_wider(tmp_path: Path) -> None:
    """Such rows stand for all other texts: what is like them may still be foreign."""
    nothing = [(f"weather rain sunny {number}", None) for number in range(200)]
    found = trained(tmp_path, [*texts(600), *nothing])
    data = read_rows(write(tmp_path / "test.jsonl", nothing[:50]), EMBEDDER, ("billing", "broken", "praise"))
    assert found.novelty.foreign(vectors_of(data, EMBEDDER)).mean() > 0.9


def test_true_and_the_text_true_are_different_labels(tmp_path: Path) -> None:
    rows = texts(30, words={True: ["a", "b", "c"], "true": ["d", "e", "f"], False: ["g", "h", "i"]})
    assert read_data(write(tmp_path / "labels.jsonl", rows), EMBEDDER, 0).classes == (False, True, "true")


FAULTS: dict[str, tuple[list[tuple[Any, Any]], str]] = {
    "no rows": ([], r"has no label: a classifier needs rows of two labels"),
    "one class": ([(f"text {number}", "a") for number in range(20)], r"has the label 'a' alone: a classifier needs"),
    "a label that appears once": (
        [*texts(30), ("odd one", "rare")],
        r"the label 'rare' has 1 usable rows \(line 31\), and 1 labels have fewer than 5: give each 5",
    ),
    "too many labels": ([(f"text {number}", f"l{number}") for number in range(1_001)], r"line 1001: more than 1,000"),
    "no text": ([("fine", "a"), ("", "a")], r"labels\.jsonl, line 2: input"),
    "a number": ([("fine", 3)], r"labels\.jsonl, line 1: label"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_data_that_cannot_be_learnt_from_is_refused_with_words(tmp_path: Path, fault: str) -> None:
    rows, words = FAULTS[fault]
    with pytest.raises(ConfigurationError, match=words):
        read_data(write(tmp_path / "labels.jsonl", rows), EMBEDDER, 0)


def test_ten_rows_are_refused_with_the_number_that_is_missing(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match=r"10 usable rows, of which 2 are held out.* 285 labels are missing"):
        trained(tmp_path, texts(10, words={True: ["a", "b", "c"], False: ["d", "e", "f"]}), agreement=0.95)


def test_contradicting_and_repeated_and_long_rows_are_left_out_and_named(tmp_path: Path) -> None:
    rows = texts(60)
    (first, label), (second, other) = rows[0], rows[1]
    rows += [(f" {first} ", "praise"), (second, other), ("word " * 257, "praise")]
    data = read_data(write(tmp_path / "labels.jsonl", rows), EMBEDDER, 0)
    assert len(data.labels) == 59
    assert first not in [text for some in data.texts() for text in some]
    assert label != "praise"
    assert list(data.said) == [
        "1 texts are longer than the embedder reads, and were left out",
        "1 texts have several labels, and were left out, such as lines 1 and 61",
        "1 rows repeat a text, which counts once",
    ]


def test_of_a_large_file_a_bounded_number_of_rows_is_drawn_and_none_of_its_texts_is_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(training, "MOST_ROWS", 300)
    rows = [(f"{text} {'x' * 2_000}", label) for text, label in texts(4_000)]
    path = write(tmp_path / "labels.jsonl", [*rows, *[(f"rare {number}", "rare") for number in range(6)]])
    size, rows = path.stat().st_size, []
    tracemalloc.start()
    try:
        data = read_data(path, EMBEDDER, 0)
        vectors = vectors_of(data, EMBEDDER)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < size / 3
    assert 295 <= len(vectors) == len(data.labels) <= 310
    assert np.bincount(data.labels).tolist()[-1] == 5  # the rare label keeps as many as it needs
    assert any(re.match(r"4,006 rows; 300 of them were drawn", line) for line in data.said)


def test_an_interval_is_exact() -> None:
    assert interval(0, 0) == (0.0, 1.0)
    assert interval(97, 100) == pytest.approx((0.9148, 0.9938), abs=1e-4)  # Clopper and Pearson, by R's binom.test
