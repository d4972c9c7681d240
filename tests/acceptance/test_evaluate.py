"""`headrace evaluate` with a stack of its own."""

import json
import shutil
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shell

pytestmark = pytest.mark.acceptance

EXAMPLE = Path(__file__).parents[2] / "examples" / "evaluate"


def test_the_example_says_which_variant_is_better(tmp_path: Path) -> None:
    """As it ships, without a model; called again it asks nothing, so that it needs no stack."""
    shutil.copytree(EXAMPLE, tmp_path / "example")
    shell = Shell(tmp_path)
    call = ("evaluate", "example/run.toml", "-o", "report", "--gate", "B >= A - 0.02")
    first = shell.run(*call)
    assert first.startswith("right (primary): B is better by 0.14")
    assert "gate B >= A - 0.02: passed" in first
    again = shell.call(*call, "--no-start", "--json", code=0)
    assert "has 80 of 80 receipts already" in again.stderr
    found = json.loads(again.stdout)
    assert [each["says"] for each in found["comparisons"]] == ["better", "unknown"]
    assert [each["from_the_cache"] for each in found["variants"]] == [0, 0]
