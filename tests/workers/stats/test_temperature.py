import numpy as np
from tests.workers.models.labelled_vectors import rows

from headrace_workers.models.heads import Head, fit, softmax
from headrace_workers.stats.temperature import calibration_error, fit_temperature


def test_the_temperature_makes_overconfident_logits_right() -> None:
    (vectors, labels), (unseen, truth) = rows(600), rows(600, seed=1)
    logits = Head("e", *fit(vectors, labels, 4, 10.0)).logits(unseen) * np.float32(6)
    temperature, _ = fit_temperature(logits, truth, 0.37, 7.4)
    right = logits.argmax(axis=1) == truth
    assert temperature > 3
    cooled = calibration_error(softmax(logits / np.float32(temperature)).max(axis=1), right)
    assert cooled < calibration_error(softmax(logits).max(axis=1), right)


def test_a_temperature_stays_within_its_bounds_and_the_bias_is_the_best_at_it() -> None:
    certain = np.array([[2.0, 0.0], [0.0, 2.0]] * 20)
    assert fit_temperature(certain, np.array([0, 1] * 20), 0.5, 4.0)[0] == 0.5
    temperature, bias = fit_temperature(certain, np.array([0, 0] * 20), 0.5, 0.5, biased=True)
    assert temperature == 0.5
    assert bias[0] == -bias[1] > 2


def test_a_label_that_a_row_does_not_have_counts_nothing() -> None:
    logits = np.array([[1.0, 0.0], [0.5, 0.0], [0.0, 2.0]] * 9)
    padded = np.hstack([logits, np.full((27, 1), -1e9)])
    right = np.array([0, 1, 1] * 9)
    assert np.isclose(fit_temperature(logits, right, 0.05, 20)[0], fit_temperature(padded, right, 0.05, 20)[0])
