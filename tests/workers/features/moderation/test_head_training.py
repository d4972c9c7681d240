"""What is trained, and what the card says of it."""

import numpy as np
import pytest
from tests.workers.features.moderation.heads import examples

from headrace_schemas.errors import ConfigurationError
from headrace_workers.features.knowledge.embedders.hashed import HashEmbedder
from headrace_workers.features.moderation.head_training import Example, Trained, card, fit, train
from headrace_workers.features.quality.estimates import Estimate

EMBEDDER = HashEmbedder()


def trained(*rows: Example) -> Trained:
    return train(rows, EMBEDDER.embed([row.text for row in rows]), EMBEDDER.id)


def test_what_is_learnt_is_found_on_a_source_that_was_not_seen() -> None:
    """Each source was left out once, and every text was asked about once."""
    found = trained(*examples("a", 80, 80), *examples("b", 80, 80)).figures["violence"]
    assert (found.positives, found.negatives, found.sources) == (160, 160, ("a", "b"))
    assert isinstance(found.whole.recall, Estimate)
    assert isinstance(found.whole.benign_false_positives, Estimate)
    assert (found.whole.recall.n, found.whole.benign_false_positives.n) == (160, 160)
    assert found.whole.recall.value > 0.9
    assert found.whole.benign_false_positives.value < 0.1


def test_a_source_of_other_words_is_no_better_than_it_is() -> None:
    """A random split would have taught the head its words: this one does not flatter."""
    odd = [Example(text=f"zig{n % 7} zag{n % 5}", source="odd", labels={"violence": True}) for n in range(80)]
    rows = [*examples("a", 80, 80), *odd, *examples("b", 0, 20)]
    figures = trained(*rows).figures["violence"]
    assert isinstance(figures.by_source["odd"].recall, Estimate)
    assert figures.by_source["odd"].recall.value < 0.7
    labels = np.array([bool(row.label("violence")) for row in rows])
    weights, bias = fit(EMBEDDER.embed([row.text for row in rows]), labels)
    assert (EMBEDDER.embed([row.text for row in odd]) @ weights + bias > 0).mean() > 0.9  # seen, they are known


@pytest.mark.parametrize(
    ("rows", "why"),
    [
        ([*examples("a", 99, 50)], "99 positives from 1 sources, of 100 from 2 at least"),
        ([*examples("a", 200, 50)], "200 positives from 1 sources"),
        ([*examples("a", 50, 50), *examples("b", 49, 50)], "99 positives from 2 sources"),
        ([*examples("a", 60, 0), *examples("b", 60, 0)], "nothing is labelled as not of it"),
        (
            [*examples("a", 60, 60), *examples("b", 60, 0)],
            "without one of its sources nothing is labelled as not of it",
        ),
    ],
)
def test_too_little_is_not_learnt(rows: list[Example], why: str) -> None:
    """The reason is told for each category, and where there is none at all it is an error."""
    with pytest.raises(ConfigurationError, match="no category can be trained: .*violence: " + why):
        trained(*rows)


def test_siblings_are_one_source() -> None:
    """Copies under another source's name do not count as a second source."""
    rows = [*examples("a", 100, 50)]
    copies = [row.model_copy(update={"source": "b"}) for row in rows]
    with pytest.raises(ConfigurationError, match="200 positives from 1 sources"):
        trained(*rows, *copies)


def test_what_nobody_said_is_unknown() -> None:
    """A text that is labelled for hate alone says nothing of violence."""
    silent = [Example(text="river", source="c", labels={"hate": False}) for _ in range(50)]
    figures = trained(*examples("a", 80, 80), *examples("b", 80, 80), *silent).figures["violence"]
    assert (figures.negatives, set(figures.by_source)) == (160, {"a", "b"})


def test_the_card_says_what_there_is_to_know() -> None:
    """Sources, figures with intervals, what was not trained, and what it was never measured on."""
    rows = [*examples("a | c", 80, 80), *examples("b", 80, 80)]
    text = card(trained(*rows), rows, "head.npz")
    assert "Trained on prompts, unmeasured on outputs" in text
    (of_it,) = [line for line in text.splitlines() if line.startswith("| a \\| c | CC0-1.0, not stated | 160 | ")]
    assert of_it.endswith(" | 80 | violence 80 |")
    assert int(of_it.split(" | ")[3]) < 160, "siblings count once"
    assert "| `violence` | 160 | 160 | " in text
    assert "of 160 |" in text
    assert "- `hate`: 0 positives from 0 sources, of 100 from 2 at least" in text


def test_a_fit_is_where_the_loss_with_its_ridge_is_least() -> None:
    """By the slope of the loss as it is written in books, at what was found."""
    random = np.random.default_rng(1)
    rows, wanted = random.normal(size=(60, 3)).astype(np.float32), random.random(60) < 0.4
    weights, bias = fit(rows, wanted)

    def loss(parameters: np.ndarray) -> float:
        margins = np.where(wanted, 1, -1) * (rows @ parameters[:3] + parameters[3])
        return float(np.log1p(np.exp(-margins)).mean() + (parameters[:3] ** 2).sum() / (2 * 10 * 60))

    at, step = np.append(weights, bias), 1e-4
    slopes = [(loss(at + step * way) - loss(at - step * way)) / (2 * step) for way in np.eye(4)]
    assert np.abs(slopes).max() < 1e-4
