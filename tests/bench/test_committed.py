"""The results that are committed: whole, and of the benches that there are."""

import json

import pytest
from bench.__main__ import NAMES, RESULTS

FILES = sorted(RESULTS.glob("*.json"))


@pytest.mark.parametrize("name", [path.stem for path in FILES])
def test_a_committed_result_is_what_its_bench_writes(name: str):
    content = json.loads((RESULTS / f"{name}.json").read_text(encoding="utf-8"))
    assert content["name"] == name
    assert name in NAMES
    assert list(content) == ["name", "date", "machine", "stack", "rows"]
    for row in content["rows"]:
        assert list(row) == ["metric", "value", "unit", "target", "holds"]
        assert (row["holds"] is None) == (row["target"] is None or row["value"] is None)
