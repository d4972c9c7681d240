"""Pages for contributors: what they name is there, and CONTRIBUTING.md stays short."""

import re
from pathlib import Path

from headrace_workers.core.pipeline.stage import installed_stages

ROOT = Path(__file__).parents[1]
PAGE = (ROOT / "CONTRIBUTING.md").read_text("utf-8")


def test_it_is_short() -> None:
    assert len(PAGE.splitlines()) <= 150


def test_a_jobs_way_can_be_followed() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text("utf-8")
    way = page.split("## Follow a job through the code\n")[1].split("\n## ")[0]
    named = re.findall(r"\]\(\.\./\.\./(.+?)\) `(\w+)`", way)
    assert len(named) == len(re.findall(r"^\d+\. ", way, re.MULTILINE)) > 0
    assert [(f, name) for f, name in named if f"def {name}(" not in (ROOT / f).read_text("utf-8")] == []


def test_every_stage_is_named() -> None:
    page = (ROOT / "docs/explanation/architecture.md").read_text("utf-8")
    table = page.split("## Stages\n")[1].split("\nA step is")[0]
    assert re.findall(r"^\| `(\w+)` \|", table, re.MULTILINE) == [stage.name for stage in installed_stages()]


def test_make_has_what_is_named() -> None:
    targets = set(re.findall(r"^([a-z]+):", (ROOT / "Makefile").read_text("utf-8"), re.MULTILINE))
    assert set(re.findall(r"(?:`|^    )make ([a-z]+)", PAGE, re.MULTILINE)) <= targets


def test_each_guarantee_names_tests_that_are_there() -> None:
    page = (ROOT / "docs/explanation/guarantees.md").read_text("utf-8")
    promises = [line for line in page.split("\n## Not promised\n")[0].splitlines() if line.startswith("| **")]
    tests = [re.findall(r"\[`(\w+)`\]\(\.\./\.\./(tests/.+?)\)", line) for line in promises]
    assert promises
    assert [line for line, named in zip(promises, tests, strict=True) if not named] == []
    every = [item for named in tests for item in named]
    assert [(f, name) for name, f in every if f"def {name}(" not in (ROOT / f).read_text("utf-8")] == []
