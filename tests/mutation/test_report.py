import pytest
from tests.mutation.report import Report, wilson

NAMES = {"a": "killed", "b": "timeout", "c": "survived", "d": "no tests", "e": "not tried"}


def test_the_share_is_of_those_that_were_tried_and_a_timeout_is_noticed():
    report = Report(NAMES, lambda name: f"-{name}", every=9, seconds=90)
    assert (report.noticed, report.tried, report.share) == (2, 4, 0.5)
    text = str(report)
    assert "c: survived\n-c" in text
    assert "d: no tests\n-d" in text
    assert "-a" not in text
    assert "2 of 4 mutants were noticed: 50.0%" in text


@pytest.mark.parametrize(("hits", "total", "low", "high"), [(0, 0, 0, 1), (10, 10, 0.722, 1), (9, 10, 0.596, 0.982)])
def test_the_interval_is_wilsons(hits: int, total: int, low: float, high: float):
    assert wilson(hits, total) == (pytest.approx(low, abs=1e-3), pytest.approx(high, abs=1e-3))
