"""`headrace run`: everything around one file."""

import json
from pathlib import Path

import pytest
from tests.acceptance.conftest import Shell, lines

pytestmark = pytest.mark.acceptance

DOCS = Path(__file__).parents[2] / "docs" / "reference" / "job-fields.md"


def test_a_file_of_evaluations_needs_no_model(tmp_path):
    documented = next(line.strip() for line in DOCS.read_text().splitlines() if line.startswith('{"input"'))
    (tmp_path / "in.jsonl").write_text(documented + "\n")
    Shell(tmp_path).run("run", "in.jsonl", "-o", "out.jsonl")
    (receipt,) = lines((tmp_path / "out.jsonl").read_text())
    assert (receipt["kind"], receipt["judge"]["scores"][0]["value"]) == ("evaluation", 1.0)


def test_a_file_is_answered_whole_and_a_refused_line_that_was_corrected_is_asked_again(shell):
    late = {"prompt": "one", "idempotency_key": "order-1", "deadline": "2020-01-01T00:00:00Z"}
    other = {**late, "prompt": "two", "idempotency_key": "order-2"}
    questions = [{"prompt": f"question {number}"} for number in range(2, 202)]
    file = shell.folder / "in.jsonl"

    def answer(*jobs, code):
        file.write_text("".join(json.dumps(job) + "\n" for job in jobs))
        shell.run("run", "in.jsonl", "-o", "out.jsonl", code=code)
        assert not (shell.folder / ".headrace" / "run.json").exists()
        receipts = lines((shell.folder / "out.jsonl").read_text())
        return [(receipt["line"], receipt.get("answer", {}).get("text")) for receipt in receipts]

    whole = answer(late, *questions, other, code=1)
    assert sorted(whole) == [(1, None), *((number, f"question {number}") for number in range(2, 202)), (202, None)]
    del late["deadline"]
    again = answer(late, *questions, other, code=1)
    assert (again[: len(whole)], sorted(again[len(whole) :])) == (whole, [(1, "one"), (202, None)])
    assert answer(late, *questions, code=0) == again
