import numpy as np
from tests.workers.features.quality.test_assessment import of
from tests.workers.features.quality.test_labelled import NEVER, queue

from headrace_workers.features.quality.assessment import Subject, assess, by_subject
from headrace_workers.features.quality.commands.quality_views import document, quality_page, words

SUBJECT = Subject("criterion", "polite<b>", "v1")


def test_scores_are_drawn_against_what_people_found():
    random = np.random.default_rng(3)
    scores = random.uniform(0.0, 1.0, 600)
    page = quality_page([("shop", SUBJECT, of(scores, (random.random(600) < scores).astype(float)))])
    assert "polite&lt;b&gt; (v1)" in page
    assert ("<figcaption>Reliability</figcaption>" in page, "<b>" not in page.replace("<b class", "")) == (True, True)
    assert page.count("found correct:") >= 5  # the points
    assert page.count(" to 0.") >= 5  # and their intervals


def test_where_there_is_nothing_to_draw_the_reason_stands():
    page = quality_page([("shop", SUBJECT, of([1.0, 0.0], [1.0, 0.0]))])
    assert "<figure>" not in page
    assert "no reliability" in page
    assert "<section>" not in quality_page([])


def test_drawn_answers_without_a_label_are_told_with_what_they_could_change():
    labels, verdicts, samples = queue("audit", [0.1] * 40, 20, 1.0)
    samples[-1] = samples[-1]._replace(state="skipped")
    ((subject, labelled),) = by_subject(labels, verdicts, samples).items()
    assessment = assess(labelled, NEVER)
    assert assessment.bounds is not None
    told = list(words("shop", subject, assessment))
    assert "  drawn for review and not labelled: 19 open, 1 skipped" in told
    ends = f"{assessment.bounds.low:.3f} to {assessment.bounds.high:.3f}"
    assert f"  if people found all of these wrong, or all right: {ends}" in told
    shown = document("shop", subject, assessment)
    assert shown["missing"] == {"open": 19, "skipped": 1}
    assert (shown["bounds"]["low"], shown["bounds"]["high"]) == (assessment.bounds.low, assessment.bounds.high)
    none = of([1.0, 0.0], [1.0, 0.0])
    assert document("shop", subject, none)["bounds"] is None
    assert not any("drawn for review" in line for line in words("shop", subject, none))
