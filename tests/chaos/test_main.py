"""The long run can begin, and comes to an end."""

import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.slow
def test_a_short_storm_holds_every_rule():
    storm = ("--jobs", "200", "--every", "3", "--minutes", "0.1", "--seed", "1", "--embedded")
    done = subprocess.run(
        [sys.executable, "-m", "tests.chaos", *storm],
        cwd=Path(__file__).parents[2], capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, ""), done.stdout
    assert "every rule holds" in done.stdout
