"""The report of a bench: figures against bounds, and the JSON that is committed."""

import json
from pathlib import Path

import pytest
from bench.report import Row, percentile, report, row, skipped, write


@pytest.mark.parametrize(("value", "holds"), [(0.9, True), (1.2, True), (0.8999, False)])
def test_a_lower_bound_holds_from_the_bound_on(value: float, holds: bool):
    assert row("ratio", value, at_least=0.9).holds is holds


@pytest.mark.parametrize(("value", "holds"), [(40.0, True), (12.0, True), (40.04, False)])
def test_an_upper_bound_holds_up_to_the_bound(value: float, holds: bool):
    found = row("p50", value, "ms", at_most=40)
    assert (found.holds, found.target) == (holds, "≤ 40")


def test_a_figure_has_one_bound_at_most():
    """Two bounds on one row are a mistake of the bench."""
    with pytest.raises(ValueError, match="not both"):
        row("ratio", 1.0, at_least=0.9, at_most=1.1)


@pytest.mark.parametrize(("value", "shown"), [(1234.56, 1235), (12.3456, 12.3), (0.0123456, 0.0123), (0, 0)])
def test_figures_are_rounded_to_what_they_are_worth(value: float, shown: float):
    assert row("figure", value).value == shown


def test_what_could_not_be_measured_says_why():
    assert skipped("procrastinate", "there is no PostgreSQL") == Row(
        "procrastinate: skipped, there is no PostgreSQL", None
    )


def test_percentiles_are_values_that_were_measured():
    values = [float(number) for number in range(100, 0, -1)]
    assert (percentile(values, 50), percentile(values, 99), percentile([3.0], 99)) == (50.0, 99.0, 3.0)


def test_the_file_has_what_readers_expect(tmp_path: Path):
    """Exactly the agreed names, in the file named after the bench, and nothing else beside it."""
    rows = [row("jobs", 1500.4, "jobs/s"), row("ratio", 1.1, "ratio", at_least=1.0), skipped("peer", "absent")]
    path = write(report("plumbing", "some services", rows), tmp_path / "results")
    assert [file_path.name for file_path in path.parent.iterdir()] == ["plumbing.json"]
    content = json.loads(path.read_text(encoding="utf-8"))
    assert list(content) == ["name", "date", "machine", "stack", "rows"]
    assert (content["name"], content["stack"]) == ("plumbing", "some services")
    assert all(list(item) == ["metric", "value", "unit", "target", "holds"] for item in content["rows"])
    assert content["rows"][1] == {"metric": "ratio", "value": 1.1, "unit": "ratio", "target": "≥ 1", "holds": True}
    assert content["rows"][2]["value"] is None
