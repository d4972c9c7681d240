"""`headrace evaluate` with a stack of its own."""

import json
import os
import shutil
import signal
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shell
from tests.services.eventually import eventually
from tests.services.provider import Portions, providing
from tests.workers.models.engines.remote_models import catalogue

pytestmark = pytest.mark.acceptance

EXAMPLE = Path(__file__).parents[2] / "examples" / "evaluate"


def test_the_example_says_which_variant_is_better(tmp_path: Path) -> None:
    """With `echo` for its model, as it says; called again it asks nothing, so that it needs no stack."""
    shutil.copytree(EXAMPLE, tmp_path / "example")
    run = tmp_path / "example" / "run.toml"
    run.write_text(run.read_text().replace('model = "smollm2-135m-instruct"', 'model = "echo"'))
    shell = Shell(tmp_path)
    call = ("evaluate", "example/run.toml", "-o", "report", "--gate", "B >= A - 0.02")
    first = shell.run(*call)
    assert first.startswith("right (primary): B is better by 0.14")
    assert "gate B >= A - 0.02: passed" in first
    rows = [line.split() for line in first.splitlines() if line.startswith(("right  ", "short  "))]
    assert [(row[:2], row[-1]) for row in rows] == [
        ([name, variant], "40") for name in ("right", "short") for variant in "AB"
    ]
    again = shell.call(*call, "--no-start", "--json", code=0)
    assert "has 80 of 80 receipts already" in again.stderr
    found = json.loads(again.stdout)
    assert [comparison["says"] for comparison in found["comparisons"]] == ["better", "unknown"]
    assert [variant["from_the_cache"] for variant in found["variants"]] == [0, 0]


RUN = """
dataset = "items.jsonl"
reference = "{{q}}"
primary = "same"
margin = 0.1
common = { model = "far" }
variants = [{ name = "A", prompt = "One {{q}}" }, { name = "B", prompt = "Two {{q}}" }]
criteria = [{ name = "same", criterion = "exact_match" }]
"""
ITEMS = int(os.environ.get("HEADRACE_TEST_ITEMS", "150"))  # by hand with 100,000, which takes minutes


@pytest.mark.slow
def test_an_evaluation_that_is_killed_twice_goes_on_where_it_was(shell: Shell) -> None:
    (shell.folder / "run.toml").write_text(RUN)
    (shell.folder / "items.jsonl").write_text("".join(json.dumps({"q": f"item {n}"}) + "\n" for n in range(ITEMS)))
    receipts = shell.folder / "report" / "receipts.jsonl"
    call = ("evaluate", "run.toml", "-o", "report")
    log = shell.folder / "evaluate.log"

    def some_are_written() -> bool:
        return receipts.exists() and receipts.read_bytes().count(b"\n") >= ITEMS // 3

    def works_again() -> bool:
        # Receipts come in the order of items: those of what the dead had in their hands hold up the others.
        return log.read_text().count("starting bridge") == 2

    before: list[bytes] = []
    portions = Portions()
    with providing(portions) as provider:
        catalogue(shell.folder / ".headrace", "openai", provider.url, open_calls=16, first_token=600.0, total=600.0)
        for in_the_middle in (some_are_written, works_again):
            portions.allow(2 * ITEMS // 3)
            run = shell.start(*call)
            eventually(in_the_middle, 600 + ITEMS // 50)
            os.kill(run.pid, signal.SIGKILL)
            run.wait(300)
            written = receipts.read_bytes().rsplit(b"\n", 1)[0].splitlines()
            assert written[: len(before)] == before
            assert len(written) < 2 * ITEMS
            before = written
        portions.allow(4 * ITEMS)
        shell.run(*call, timeout=600 + ITEMS // 50)
        portions.answer_those_that_wait()
    after = receipts.read_bytes().splitlines()
    assert after[: len(before)] == before
    assert sorted(json.loads(line)["line"] for line in after) == list(range(1, 2 * ITEMS + 1))
    report = json.loads((shell.folder / "report" / "report.json").read_text())
    assert (report["without_end"], len(report["answers"])) == (0, ITEMS)
