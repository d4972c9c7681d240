"""What is known of verdicts, as a page."""

import numpy as np
from tests.workers.features.quality.test_assessment import of

from headrace_workers.features.quality.assessment import Subject
from headrace_workers.features.quality.commands.quality_views import quality_page

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
